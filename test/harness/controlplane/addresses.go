package controlplane

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
)

// addresses holds the ports and the pod network of one control plane.
//
// A reservation is a UDP socket bound to the same number: TCP, which the components speak, does not mind it,
// no other control plane on this machine can bind it too, and the kernel frees it when this program dies.
// The ports lie below the ranges from which the kernel takes ephemeral ports (32768 on Linux, 49152 on
// macOS), so that a component finds its own port free again when it is restarted.
type addresses struct {
	held []io.Closer
}

const (
	firstPort, lastPort = 20000, 29999

	// Pod networks are 127.64.0.0/16 to 127.127.0.0/16, one for each control plane of this machine, so that
	// two of them can even listen on the same port of "their" pods.
	firstPodNetwork, lastPodNetwork = 64, 127
	// podNetworkPort is where a pod network is reserved, at its last address, which no pod gets.
	podNetworkPort = 20000
)

// port reserves a TCP port of 127.0.0.1 until close.
func (a *addresses) port() (int, error) {
	const tries = 200
	for range tries {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		reservation, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue // another control plane has it
		}
		probe, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			// Another program listens there. It holds no reservation, so ours would help nobody.
			if err := reservation.Close(); err != nil {
				return 0, fmt.Errorf("give up port %d: %w", port, err)
			}
			continue
		}
		a.held = append(a.held, reservation)
		if err := probe.Close(); err != nil {
			return 0, fmt.Errorf("probe port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("found no free port of 127.0.0.1 between %d and %d in %d tries", firstPort, lastPort, tries)
}

// podNetwork reserves a network of loopback addresses for pods until close.
func (a *addresses) podNetwork() (*net.IPNet, error) {
	return a.podNetworkOf(firstPodNetwork, lastPodNetwork)
}

// podNetworkOf reserves one of the networks from 127.first.0.0/16 to 127.last.0.0/16.
func (a *addresses) podNetworkOf(firstNetwork, lastNetwork int) (*net.IPNet, error) {
	var last error
	for _, offset := range rand.Perm(lastNetwork - firstNetwork + 1) {
		second := byte(firstNetwork + offset)
		reservation, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, second, 255, 254), Port: podNetworkPort})
		if err != nil {
			last = err
			continue
		}
		a.held = append(a.held, reservation)
		return &net.IPNet{IP: net.IPv4(127, second, 0, 0), Mask: net.CIDRMask(16, 32)}, nil
	}
	return nil, fmt.Errorf("found no free pod network between 127.%d.0.0/16 and 127.%d.0.0/16: %w", firstNetwork, lastNetwork, last)
}

// close gives all reservations back.
func (a *addresses) close() error {
	var errs []error
	for _, reservation := range a.held {
		errs = append(errs, reservation.Close())
	}
	a.held = nil
	return errors.Join(errs...)
}
