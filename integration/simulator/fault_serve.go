// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// serveFault answers a call in the way of a fault.
func (s *Simulator) serveFault(w http.ResponseWriter, c *call, route route, fault Fault) {
	var genuine answer
	if fault.carriesOut() {
		genuine = route.endpoint.serve(c)
	}
	switch fault.Kind {
	case FaultSlow:
		pause(c.request.Context(), fault.Delay)
		genuine.write(w)
	case FaultDrip:
		drip(c.request.Context(), w, genuine, fault.Delay)
	case FaultHuge:
		huge(w, fault.Bytes)
	case FaultGarbage:
		answer{status: http.StatusOK, contentType: "text/plain", body: []byte(garbage)}.write(w)
	case FaultStatus:
		htmlPage(fault.Status).write(w)
	case FaultRedirect:
		w.Header().Set("Location", orDefault(fault.Location, c.request.URL.RequestURI()))
		htmlPage(fault.Status).write(w)
	case FaultReset:
		resetConnection(w)
	case FaultErrcode:
		route.platform.refuse(c, fault.Code, fault.Message).write(w)
	case FaultStringNumbers:
		route.platform.rewrite(genuine, numbersToStrings).write(w)
	case FaultMissingFields:
		route.platform.rewrite(genuine, fault.dropFields).write(w)
	case FaultWrongTypes:
		route.platform.rewrite(genuine, fault.replaceFields).write(w)
	default:
		if fault.Code != "" {
			genuine = route.platform.refuse(c, fault.Code, fault.Message)
		}
		fault.disguise(genuine).write(w)
	}
}

// carriesOut reports whether the platform carries out a call with this fault.
func (f Fault) carriesOut() bool {
	switch f.Kind {
	case FaultSlow, FaultDrip, FaultStringNumbers, FaultMissingFields, FaultWrongTypes:
		return true
	default:
		return f.After || (f.Kind.isAlipay() && f.Code == "")
	}
}

// pause waits. When the call ends before that, the connection is closed.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	}
}

// drip sends an answer byte by byte.
func drip(ctx context.Context, w http.ResponseWriter, a answer, interval time.Duration) {
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	a.writeHeaders(w)
	controller := http.NewResponseController(w)
	for i := range a.body {
		if i > 0 {
			pause(ctx, interval)
		}
		if _, err := w.Write(a.body[i : i+1]); err != nil {
			return
		}
		if err := controller.Flush(); err != nil {
			return
		}
	}
}

const (
	hugeStart = `{"errmsg":"`
	hugeEnd   = `"}`
)

// huge sends an answer of n bytes, without saying how many they will be. It is
// one JSON object if n leaves room for that.
func huge(w http.ResponseWriter, n int64) {
	w.Header().Set("Content-Type", "application/json")
	start, end := hugeStart, hugeEnd
	if n < int64(len(start)+len(end)) {
		start, end = "", ""
	}
	if _, err := io.WriteString(w, start); err != nil {
		return
	}
	filler := bytes.Repeat([]byte{'A'}, 32<<10)
	for left := n - int64(len(start)+len(end)); left > 0; {
		chunk := filler[:min(left, int64(len(filler)))]
		if _, err := w.Write(chunk); err != nil {
			return
		}
		left -= int64(len(chunk))
	}
	_, _ = io.WriteString(w, end)
}

// garbage begins like JSON, goes on like gzip and is never UTF-8.
const garbage = "{\"openid\":\x1f\x8b\x08\x00\xff\xfe\x80\"session_key\x00]]>"

// htmlPage is what a load balancer in front of a platform says when there is
// nothing behind it.
func htmlPage(status int) answer {
	title := strconv.Itoa(status) + " " + http.StatusText(status)
	page := "<html>\r\n<head><title>" + title + "</title></head>\r\n<body><center><h1>" +
		title + "</h1></center></body>\r\n</html>\r\n"
	return answer{status: status, contentType: "text/html", body: []byte(page)}
}

// resetConnection closes the connection so that the client sees a reset.
func resetConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	conn = innermost(conn)
	// Without lingering, Close sends RST in the place of FIN. Where one of them
	// fails, the client sees the connection end without an answer all the same.
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// innermost returns what is below TLS and other wrappers of a connection, so
// that closing it says no goodbye.
func innermost(conn net.Conn) net.Conn {
	for {
		wrapper, wrapped := conn.(interface{ NetConn() net.Conn })
		if !wrapped {
			return conn
		}
		conn = wrapper.NetConn()
	}
}

// rewriteJSON changes text that is JSON.
func rewriteJSON(text []byte, change func(any) any) []byte {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return text
	}
	return encodeJSON(change(value))
}

// numbersToStrings turns each number in value into a string.
func numbersToStrings(value any) any {
	switch value := value.(type) {
	case json.Number:
		return value.String()
	case []any:
		for i := range value {
			value[i] = numbersToStrings(value[i])
		}
	case map[string]any:
		for name := range value {
			value[name] = numbersToStrings(value[name])
		}
	}
	return value
}

// dropFields removes the fault's fields from value.
func (f Fault) dropFields(value any) any {
	return f.eachField(value, func(object map[string]any, name string) { delete(object, name) })
}

// replaceFields puts something of another type into the fault's fields.
func (f Fault) replaceFields(value any) any {
	return f.eachField(value, func(object map[string]any, name string) {
		if len(f.Value) > 0 {
			object[name] = f.Value
			return
		}
		object[name] = []any{object[name]}
	})
}

// eachField calls change with each member of value that has one of the fault's
// names, or with each member of its top level where the fault has no names.
func (f Fault) eachField(value any, change func(object map[string]any, name string)) any {
	object, isObject := value.(map[string]any)
	if !isObject {
		return value
	}
	for name, member := range object {
		if len(f.Fields) == 0 || slices.Contains(f.Fields, name) {
			change(object, name)
			continue
		}
		f.eachField(member, change)
	}
	return object
}
