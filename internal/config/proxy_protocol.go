package config

// The PROXY protocol in the configuration: which load balancers state the addresses of clients.
// Package listener (pkg/xks/listener) reads the headers.

import (
	"fmt"
	"net/netip"
	"strings"

	"xks-proxy/internal/config/schema"
)

// The smallest prefix lengths of a trusted network. A larger network contains clients, and each
// could claim to be another: that is an error. A network that probably contains more than load
// balancers is a warning.
const (
	leastTrustedBits = 8
	likelyIPv4Bits   = 16
	likelyIPv6Bits   = 48
)

// Sources returns the trusted networks of a checked configuration.
func (p ProxyProtocol) Sources() []netip.Prefix {
	var sources []netip.Prefix
	for _, text := range p.Trusted {
		source, err := parseSource(text)
		if err == nil {
			sources = append(sources, source)
		}
	}
	return sources
}

// parseSource reads an address or a network.
func parseSource(text string) (netip.Prefix, error) {
	source, err := netip.ParsePrefix(text)
	if address, notAddress := netip.ParseAddr(text); notAddress == nil && address.Zone() == "" {
		source, err = netip.PrefixFrom(address, address.BitLen()), nil
	}
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is not an address or a network; "+
			"write it like 10.0.1.7, 10.0.1.0/24 or 2001:db8::/64", text)
	case source.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q never matches; write the IPv4 address as it is", text)
	case source.Bits() < leastTrustedBits:
		return netip.Prefix{}, fmt.Errorf("%q trusts every client in that network to state its "+
			"own address, so any of them could forge it; name the addresses or the subnets of "+
			"the load balancer only", text)
	case source != source.Masked():
		return netip.Prefix{}, fmt.Errorf("%q is not the first address of its network; "+
			"write %s for the network, or %s for the one address",
			text, source.Masked(), source.Addr())
	}
	return source, nil
}

func validateProxyProtocol(r *schema.Report, at string, p ProxyProtocol) {
	for i, text := range p.Trusted {
		key := fmt.Sprintf("%s.trusted[%d]", at, i)
		source, err := parseSource(text)
		if err != nil {
			r.Errorf(key, "%v", err)
			continue
		}
		likely := likelyIPv6Bits
		if source.Addr().Is4() {
			likely = likelyIPv4Bits
		}
		if source.Bits() < likely {
			r.Warnf(key, "%s is large; every machine in it can claim to be any client: "+
				"name the subnets of the load balancer only", source)
		}
	}
}

// DescribeSources names the trusted networks in a sentence, after the address of a port.
func DescribeSources(p ProxyProtocol) string {
	if len(p.Trusted) == 0 {
		return ""
	}
	return ", PROXY protocol from " + strings.Join(p.Trusted, " ")
}
