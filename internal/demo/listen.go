package demo

// Where the demo listens: asked for, as before, or a free port.

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"xks-proxy/internal/xksclient"
)

// demoAddresses are where the demo serves AWS KMS, and health and metrics.
type demoAddresses struct{ listen, health string }

// demoListen settles the addresses, so that a port that is taken is reported before
// anything is made. The health port of a first run gives way to a free one: many programs have
// 8080, and what the demo prints names the port.
func demoListen(o Options, before *xksclient.ConnectionFile) (demoAddresses, error) {
	if before == nil {
		before = &xksclient.ConnectionFile{}
	}
	ports := demoPorts{prepareOnly: o.PrepareOnly}
	defer ports.release()
	listen, err := ports.settle("--listen", cmp.Or(o.Listen, before.Listen, DefaultListen))
	if err != nil {
		return demoAddresses{}, err
	}
	chosen := cmp.Or(o.Health, before.Health)
	if chosen == "" && strings.HasSuffix(o.Listen, ":0") {
		chosen = freeDemoHealth
	}
	health, err := ports.settle("--health-listen", cmp.Or(chosen, DefaultHealthListen))
	var taken takenError
	if chosen == "" && errors.As(err, &taken) {
		health, err = ports.settle("--health-listen", freeDemoHealth)
	}
	return demoAddresses{listen: listen, health: health}, err
}

// demoPorts holds the ports that were settled until all are: two free ones are then two.
type demoPorts struct {
	prepareOnly bool
	held        []net.Listener
}

// settle tries an address and returns it with the port that it has. flag is where the user can
// choose another one.
func (p *demoPorts) settle(flag, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", &AddressError{Flag: flag, Address: address}
	}
	if p.prepareOnly && port != "0" {
		return address, nil
	}
	l, err := net.Listen("tcp", address)
	free := flag + " " + net.JoinHostPort(host, "0")
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "", takenError{address: address, free: free}
	case errors.Is(err, syscall.EACCES):
		return "", fmt.Errorf(
			"not allowed to listen on %s: take a free port with %s",
			address,
			free,
		)
	case err != nil:
		return "", fmt.Errorf("cannot listen on %s (%s): %w", address, flag, err)
	}
	p.held = append(p.held, l)
	_, port, err = net.SplitHostPort(l.Addr().String())
	return net.JoinHostPort(host, port), err
}

func (p *demoPorts) release() {
	for _, l := range p.held {
		_ = l.Close() // nothing was accepted
	}
}

// takenError: the port is another program's.
type takenError struct{ address, free string }

func (e takenError) Error() string {
	return fmt.Sprintf(
		"another program listens on %s: stop it, or take a free port with %s",
		e.address,
		e.free,
	)
}

// hostOf is the name or address by which clients on this machine reach a listener.
func hostOf(listen string) string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "" {
		return "127.0.0.1"
	}
	ip := net.ParseIP(host)
	switch {
	case ip == nil || !ip.IsUnspecified():
		return host
	case strings.Contains(host, ":"):
		return "::1"
	}
	return "127.0.0.1"
}

// endpointOf is the XksProxyUriEndpoint of a listener.
func endpointOf(listen string) string { return "https://" + addressOf(listen) }

// addressOf is the address by which clients on this machine reach a listener.
func addressOf(listen string) string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	return net.JoinHostPort(hostOf(listen), port)
}

// AddressError is an address on the command line that is not one.
type AddressError struct{ Flag, Address string }

func (e *AddressError) Error() string {
	return fmt.Sprintf("%s %q is not of the form ADDRESS:PORT", e.Flag, e.Address)
}
