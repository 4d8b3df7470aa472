// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// maxAdminAnswer is the most bytes that a command reads of an answer. The longest
// is an export with a picture.
const maxAdminAnswer = 64 << 20

// addConnectionFlags adds the flags that say which gateway a command is for.
func addConnectionFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.String("address", "", "The admin endpoint: host:port, unix//path, or https://host:port of a remote one (default: that of --config, or "+caddy.DefaultAdminListen+")")
	flags.StringP("config", "c", "", "A configuration file whose admin endpoint to use")
	flags.StringP("adapter", "a", "", "The name of the config adapter of --config")
	flags.String("cert", "", "The client certificate for a remote endpoint, a PEM file")
	flags.String("key", "", "The private key of --cert, a PEM file")
	flags.String("cacert", "", "The certificates to trust a remote endpoint by, a PEM file (default: those of the system)")
}

// adminClient calls the admin endpoint of a gateway.
type adminClient struct {
	base   string // such as http://localhost:2019
	origin string // Caddy's protection against other sites wants it; empty where it does not
	name   string // for people
	http   *http.Client
}

// newAdminClient makes a client as the flags of a command say.
func newAdminClient(cmd *cobra.Command) (*adminClient, error) {
	address, err := adminAddress(cmd)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	c := &adminClient{name: address, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if strings.HasPrefix(address, "https://") {
		c.base = strings.TrimRight(address, "/")
		transport.Proxy = http.ProxyFromEnvironment
		transport.TLSClientConfig, err = adminTLS(cmd)
		return c, err
	}
	for _, name := range []string{"cert", "key", "cacert"} {
		if cmd.Flags().Changed(name) {
			return nil, fmt.Errorf("--%s is for an address that begins with https://", name)
		}
	}
	target, err := caddy.ParseNetworkAddress(strings.TrimPrefix(address, "http://"))
	if err != nil || target.PortRangeSize() > 1 {
		return nil, fmt.Errorf("reading the admin address %q: it must be host:port, unix//path or https://host:port", visible(address))
	}
	if target.IsUnixNetwork() {
		c.base = "http://127.0.0.1"                       // nobody looks at it
		target.Host, _, _ = strings.Cut(target.Host, "|") // permissions may stand there
	} else {
		c.base = "http://" + target.JoinHostPort(0)
		c.origin = c.base
	}
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, target.Network, target.JoinHostPort(0))
	}
	return c, nil
}

// adminAddress returns where the admin endpoint is.
func adminAddress(cmd *cobra.Command) (string, error) {
	flags := cmd.Flags()
	address, config, adapter := flags.Lookup("address").Value.String(), flags.Lookup("config").Value.String(), flags.Lookup("adapter").Value.String()
	address, err := caddycmd.DetermineAdminAPIAddress(address, nil, config, adapter)
	if err != nil {
		return "", fmt.Errorf("finding the admin endpoint: %w", err)
	}
	return address, nil
}

// adminTLS returns the credentials for a remote endpoint.
func adminTLS(cmd *cobra.Command) (*tls.Config, error) {
	flags := cmd.Flags()
	cert, key, ca := flags.Lookup("cert").Value.String(), flags.Lookup("key").Value.String(), flags.Lookup("cacert").Value.String()
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if (cert == "") != (key == "") {
		return nil, errors.New("--cert and --key belong together")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if ca != "" {
		data, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("reading --cacert: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, errors.New("reading --cacert: it has no certificate")
		}
	}
	return config, nil
}

// call calls an action of Admin, with the JSON of body unless that is nil, and
// returns the JSON of the answer; nil for none.
func (c *adminClient) call(cmd *cobra.Command, name string, body any) (json.RawMessage, error) {
	return c.do(cmd.Context(), adminActions[name].method, name, body)
}

// do is call for an action that has several methods.
func (c *adminClient) do(ctx context.Context, method, name string, body any) (json.RawMessage, error) {
	request, err := c.request(ctx, method, name, body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("calling the admin endpoint at %s: %s", visible(c.name), visible(err.Error()))
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAdminAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer of the admin endpoint: %s", visible(err.Error()))
	case len(data) > maxAdminAnswer:
		return nil, errors.New("the answer of the admin endpoint is too long")
	case response.StatusCode == http.StatusNoContent:
		return nil, nil
	case response.StatusCode == http.StatusOK && json.Valid(data):
		return data, nil
	}
	var failure struct {
		Error string `json:"error"`
	}
	if response.StatusCode == http.StatusOK || json.Unmarshal(data, &failure) != nil || failure.Error == "" {
		return nil, fmt.Errorf("the admin endpoint answers %s, which is no answer of a gateway", visible(response.Status))
	}
	return nil, errors.New(visible(failure.Error))
}

func (c *adminClient) request(ctx context.Context, method, name string, body any) (*http.Request, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("encoding the call: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+adminPath+name, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("making the call: %s", visible(err.Error()))
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.origin != "" {
		request.Header.Set("Origin", c.origin)
	}
	return request, nil
}
