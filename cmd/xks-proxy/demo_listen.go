package main

// Where the demo listens: asked for, as before, or a free port.

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// demoListen settles the address, so that a port that is taken is reported before
// anything is made.
func demoListen(o demoOptions, before *connectionFile) (string, error) {
	address := o.listen
	if address == "" && before != nil {
		address = before.Listen
	}
	if address == "" {
		address = defaultDemoListen
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", usageError(fmt.Errorf("--listen %q is not of the form ADDRESS:PORT", address))
	}
	if o.prepareOnly && port != "0" {
		return address, nil
	}
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "", fmt.Errorf("another program listens on %s: stop it, or take a free port with --listen %s", address, net.JoinHostPort(host, "0"))
	case errors.Is(err, syscall.EACCES):
		return "", fmt.Errorf("not allowed to listen on %s: take a free port with --listen %s", address, net.JoinHostPort(host, "0"))
	case err != nil:
		return "", fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	_, port, err = net.SplitHostPort(l.Addr().String())
	return net.JoinHostPort(host, port), errors.Join(err, l.Close())
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
func endpointOf(listen string) string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "https://" + listen
	}
	return "https://" + net.JoinHostPort(hostOf(listen), port)
}
