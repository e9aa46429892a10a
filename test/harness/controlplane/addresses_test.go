package controlplane

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
)

func TestControlPlanesDoNotShareAddresses(t *testing.T) {
	const planes, portsEach = 8, 5
	taken := map[string]int{}
	take := func(plane int, address string) {
		if other, ok := taken[address]; ok {
			t.Errorf("control planes %d and %d both have %s", other, plane, address)
		}
		taken[address] = plane
	}
	for plane := range planes {
		var held addresses
		t.Cleanup(func() {
			if err := held.close(); err != nil {
				t.Error(err)
			}
		})
		network, err := held.podNetwork()
		if err != nil {
			t.Fatal(err)
		}
		take(plane, network.String())
		for range portsEach {
			port, err := held.port()
			if err != nil {
				t.Fatal(err)
			}
			take(plane, fmt.Sprint("port ", port))
			// A component can listen there, and again after a restart.
			for range 2 {
				listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					t.Fatalf("a reserved port: %v", err)
				}
				if err := listener.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestPodNetworksRunOutWithAReason(t *testing.T) {
	var held addresses
	defer func() {
		if err := held.close(); err != nil {
			t.Error(err)
		}
	}()
	// No control plane of this machine misses these.
	const first, last = firstPodNetwork - 4, firstPodNetwork - 1
	for range last - first + 1 {
		if _, err := held.podNetworkOf(first, last); err != nil {
			t.Fatal(err)
		}
	}
	if network, err := held.podNetworkOf(first, last); err == nil || !strings.Contains(
		err.Error(), "found no free pod network between 127.60.0.0/16 and 127.63.0.0/16",
	) {
		t.Errorf("after all networks were taken: %s, %v", network, err)
	}
}

func TestEachStartOfKwokHasItsOwnPodAddresses(t *testing.T) {
	_, network, err := net.ParseCIDR("127.77.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	adjust := kwokNetworks(network)
	var earlier []*net.IPNet
	for start := range 8 {
		command := exec.Command("kwok", "--flag")
		if err := adjust(command); err != nil {
			t.Fatalf("start %d: %v", start, err)
		}
		flag := command.Args[len(command.Args)-1]
		_, part, err := net.ParseCIDR(strings.TrimPrefix(flag, "--cidr="))
		if err != nil {
			t.Fatalf("start %d: flag %s: %v", start, flag, err)
		}
		if !network.Contains(part.IP) {
			t.Errorf("start %d has the addresses %s, which are not of the pod network %s", start, part, network)
		}
		for _, other := range earlier {
			if other.Contains(part.IP) || part.Contains(other.IP) {
				t.Errorf("start %d has the addresses %s, which overlap with %s of an earlier one", start, part, other)
			}
		}
		earlier = append(earlier, part)
	}
	if err := adjust(exec.Command("kwok")); err == nil {
		t.Error("a ninth start is not refused, although the addresses are used up")
	}
}
