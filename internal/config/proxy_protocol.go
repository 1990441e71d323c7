package config

// The PROXY protocol in the configuration: which load balancers state the addresses of clients.
// pkg/xks reads the headers.

import (
	"fmt"
	"net/netip"
	"strings"

	"xks-proxy/internal/config/schema"
)

// The least length of a trusted network. In a larger one there are clients, and each could claim to
// be another: those are errors, and what is unlikely to be load balancers only is a warning.
const (
	leastTrustedBits = 8
	likelyIPv4Bits   = 16
	likelyIPv6Bits   = 48
)

// Sources are the trusted networks. What cannot be read was refused with the configuration.
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
			r.Warnf(key, "%s is large; whatever runs in it can claim to be any client: "+
				"name the subnets of the load balancer only", source)
		}
	}
}

// DescribeSources is for eyes, after the address of a port.
func DescribeSources(p ProxyProtocol) string {
	if len(p.Trusted) == 0 {
		return ""
	}
	return ", PROXY protocol from " + strings.Join(p.Trusted, " ")
}
