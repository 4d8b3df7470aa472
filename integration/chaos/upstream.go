// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"net/http"
	"strings"
)

// seen is what the upstream tells of a request: every value of a header that an
// upstream could take for the name.
type seen struct {
	OpenID []string `json:"openid"`
	UserID []string `json:"user_id"`
}

// echo is the service behind the gateways: it tells who it is told that the user is.
func echo(w http.ResponseWriter, r *http.Request) {
	var told seen
	for name, values := range r.Header {
		switch folded(name) {
		case "xuseropenid":
			told.OpenID = append(told.OpenID, values...)
		case "xuserid":
			told.UserID = append(told.UserID, values...)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(told)
}

// folded returns the letters and digits of a header name, in lower case.
func folded(name string) string {
	return strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
			return c
		}
		return -1
	}, strings.ToLower(name))
}
