package budget

import (
	"net"
	"net/netip"
)

// Source is what an address, with or without a port, counts for where it is bounded what comes from one: itself, or its IPv6 network of 64
// bits, all of whose addresses one host has. What is no IP address is its own source.
func Source(address string) string {
	host := address
	if alone, _, err := net.SplitHostPort(address); err == nil {
		host = alone
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return host
	}
	return network.String()
}
