package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

// field is an encoded field of bytes.
func field(number protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), slices.Concat(parts...))
}

// smallPods are fields with different pods of the smallest size, as many as there are in so many bytes.
func smallPods(number protowire.Number, size int) []byte {
	var out []byte
	for i := uint64(0); len(out) < size; i++ {
		out = append(out, field(number, binary.BigEndian.AppendUint64(make([]byte, 24), i))...)
	}
	return out
}

// TestHostileRequests: requests whose objects would be many times their size are refused, with the reason and the flag, and take a
// little more memory than they have bytes, however many these are.
func TestHostileRequests(t *testing.T) {
	const mib = 1 << 20
	unordered := field(77, []byte("unknown"))
	for name, row := range map[string]struct {
		body   func(size int) []byte
		reason wire.Reason
		says   string
	}{
		"options of nothing": {func(size int) []byte { return bytes.Repeat([]byte{0x0a, 0}, size/2) },
			wire.ReasonOptions, "it has more than 10000 options (--max-expander-options)"},
		"pods of nothing": {func(size int) []byte { return field(1, bytes.Repeat([]byte{0x2a, 0}, size/2)) },
			wire.ReasonPodSize, "options[0]: it has a pod of 0 bytes; pods have from 32 to 3145728"},
		"old pods of nothing": {func(size int) []byte { return field(1, bytes.Repeat([]byte{0x22, 0}, size/2)) },
			wire.ReasonPodSize, "options[0]: it has a pod of 0 bytes"},
		"pods of nothing out of order": {func(size int) []byte { return field(1, unordered, bytes.Repeat([]byte{0x2a, 0}, size/2)) },
			wire.ReasonPodSize, "options[0]: it has a pod of 0 bytes"},
		"many pods": {func(size int) []byte { return field(1, smallPods(5, size)) },
			wire.ReasonPods, "options[0]: it has 100001 pods; at most 100000 are allowed (--max-expander-pods)"},
		"many pods out of order": {func(size int) []byte { return field(1, unordered, smallPods(4, size)) },
			wire.ReasonPods, "options[0]: it has 100001 pods; at most 100000 are allowed (--max-expander-pods)"},
		"a large pod": {func(size int) []byte { return field(1, field(5, make([]byte, size))) },
			wire.ReasonPodSize, "options[0]: it has a pod of "},
		"a large id": {func(size int) []byte { return field(1, field(1, bytes.Repeat([]byte("a"), size))) },
			wire.ReasonName, "options[0]: its nodeGroupId has "},
		"text": {func(size int) []byte { return bytes.Repeat([]byte("garbage"), size/7) }, wire.ReasonMalformed, "read field 12: "},
	} {
		for _, size := range []int{8 * mib, 24 * mib} {
			received := cut(row.body(size), 16<<10)
			var refused []wire.Reason
			codec := wire.NewCodec(wire.DefaultLimits(), func(reason wire.Reason) { refused = append(refused, reason) })
			var err error
			took := allocated(func() { err = codec.Unmarshal(received, &expander.BestOptionsRequest{}) })
			if err == nil || !strings.Contains(err.Error(), row.says) || !slices.Equal(refused, []wire.Reason{row.reason}) {
				t.Errorf("%s of %d MiB: %v, counted as %v; want %s, counted as %s", name, size/mib, err, refused, row.says, row.reason)
			}
			if most := 3*size + 4*mib; took > most {
				t.Errorf("%s of %d MiB take %d MiB, more than %d", name, size/mib, took/mib, most/mib)
			}
			t.Logf("%s of %d MiB: %.1f MiB allocated", name, size/mib, float64(took)/mib)
		}
	}
}

// allocated is how many bytes are allocated meanwhile, those that are free again included.
func allocated(do func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// TestListedPods: what all options list together is bounded too, also where they share their pods.
func TestListedPods(t *testing.T) {
	t.Parallel()
	limits := wire.Limits{Options: 10, Pods: 5, PodsListed: 12, Tolerations: 1}
	list := smallPods(5, 5*34)
	for options, fails := range map[int]bool{2: false, 3: true} {
		for name, option := range map[string][]byte{
			"shared": field(1, field(1, []byte("a")), list), "out of order": field(1, list, field(1, []byte("a"))),
		} {
			err := wire.NewCodec(limits, func(wire.Reason) {}).Unmarshal(cut(bytes.Repeat(option, options), 100), &expander.BestOptionsRequest{})
			refusal, is := errors.AsType[*wire.Refusal](err)
			if is != fails || is && (refusal.Reason != wire.ReasonPods || !strings.Contains(
				err.Error(), "options[2]: with its 5 pods the options list more than 12",
			)) {
				t.Errorf("%d options, %s: %v", options, name, err)
			}
		}
	}
}

// TestLimits: a limit that lets nothing through is refused, with its flag.
func TestLimits(t *testing.T) {
	t.Parallel()
	limits := wire.DefaultLimits()
	if err := limits.Validate(); err != nil {
		t.Error(err)
	}
	limits.PodsListed = 0
	if err := limits.Validate(); err == nil || !strings.Contains(err.Error(), "--max-expander-pods-listed is 0; it must be at least 1") {
		t.Errorf("a limit of 0: %v", err)
	}
}
