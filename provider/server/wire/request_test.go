package wire_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

// cut is a message in pieces of a length.
func cut(encoded []byte, length int) mem.BufferSlice {
	var out mem.BufferSlice
	for piece := range slices.Chunk(encoded, length) {
		out = append(out, mem.SliceBuffer(piece))
	}
	return out
}

// newCodec is a codec with the limits that are shipped.
func newCodec() encoding.CodecV2 { return wire.NewCodec(wire.DefaultLimits(), func(wire.Reason) {}) }

// padding makes text as long as a pod is at least.
var padding = strings.Repeat("p", 32)

func marshal(tb testing.TB, message proto.Message) []byte {
	tb.Helper()
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		tb.Fatal(err)
	}
	return encoded
}

// read reads a request as a server of the expander does.
func read(tb testing.TB, encoded []byte, length int) *expander.BestOptionsRequest {
	tb.Helper()
	request := &expander.BestOptionsRequest{Options: []*expander.Option{{NodeGroupId: "of the request before"}}}
	if err := newCodec().Unmarshal(cut(encoded, length), request); err != nil {
		tb.Fatal(err)
	}
	return request
}

// randomRequest has options of few lists of pods, of both generations.
func randomRequest(random *rand.Rand) *expander.BestOptionsRequest {
	lists := make([][][]byte, 1+random.IntN(4))
	for i := range lists {
		lists[i] = make([][]byte, random.IntN(6))
		for j := range lists[i] {
			// Few letters, so that some lists begin as others do.
			lists[i][j] = []byte(padding + strings.Repeat("p", random.IntN(200)) + string(rune('a'+random.IntN(3))))
		}
	}
	request := &expander.BestOptionsRequest{}
	for i := range random.IntN(12) {
		o := &expander.Option{NodeGroupId: fmt.Sprintf("group-%d", i), NodeCount: random.Int32N(5) - 1}
		if random.IntN(3) == 0 {
			o.Debug = strings.Repeat("é", random.IntN(3000))
		}
		if random.IntN(3) > 0 {
			o.PodBytes = lists[random.IntN(len(lists))]
		}
		if random.IntN(3) == 0 {
			o.LegacyPod = lists[random.IntN(len(lists))]
		}
		request.Options = append(request.Options, o)
	}
	return request
}

// TestSameAsTheLibrary: whatever the fields and wherever the message is cut, it is read as the protobuf library reads it, but
// for the nodes of the groups.
func TestSameAsTheLibrary(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		request := randomRequest(random)
		encoded := marshal(t, request)
		nodes := map[string][]byte{"group-1": []byte("node"), "group-2": make([]byte, 100)}
		rest := marshal(t, &expander.BestOptionsRequest{NodeBytesMap: nodes, LegacyNodeMap: nodes})
		if random.IntN(2) == 0 {
			encoded = append(encoded, rest...)
		} else {
			encoded = append(rest, encoded...)
		}
		got := read(t, encoded, 1+random.IntN(1000))
		if !proto.Equal(request, got) {
			t.Fatalf("seed %d: request (-sent +read):\n%s", seed, gocmp.Diff(request, got, protocmp.Transform()))
		}
	}
}

// TestFieldsInAnyOrder: an option is read whatever the order of its fields, and with fields that nobody knows yet.
func TestFieldsInAnyOrder(t *testing.T) {
	t.Parallel()
	pod := func(field protowire.Number, text string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, field, protowire.BytesType), text)
	}
	parts := [][]byte{
		pod(1, "group"), protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 3), pod(3, "debug"), pod(4, "old"+padding),
		pod(5, "a"+padding), pod(5, "b"+padding), pod(77, "unknown"), protowire.AppendFixed64(
			protowire.AppendTag(nil, 78, protowire.Fixed64Type), 1,
		),
	}
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 2))
		var encoded []byte
		for range 1 + random.IntN(3) {
			random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
			option := slices.Concat(parts...)
			encoded = protowire.AppendBytes(protowire.AppendTag(encoded, 1, protowire.BytesType), option)
		}
		want := &expander.BestOptionsRequest{}
		if err := proto.Unmarshal(encoded, want); err != nil {
			t.Fatal(err)
		}
		if got := read(t, encoded, 7); !proto.Equal(want, got) {
			t.Fatalf("seed %d: request (-library +ours):\n%s", seed, gocmp.Diff(want, got, protocmp.Transform()))
		}
	}
}

// TestPodsAreShared: options with the same pods share them, whatever the lists between, and others do not.
func TestPodsAreShared(t *testing.T) {
	t.Parallel()
	list := func(last string) [][]byte { return [][]byte{[]byte(strings.Repeat("p", 100)), []byte(padding + last)} }
	request := &expander.BestOptionsRequest{Options: []*expander.Option{
		{NodeGroupId: "a", PodBytes: list("1")}, {NodeGroupId: "b", PodBytes: list("longer")},
		{
			NodeGroupId: "c", NodeCount: 3, Debug: "text", PodBytes: list("1"),
		}, {NodeGroupId: "d", PodBytes: list("2")}, {NodeGroupId: "e", LegacyPod: list("1")},
	}}
	options := read(t, marshal(t, request), 16).GetOptions()
	shares := func(i, j int) bool { return &options[i].GetPodBytes()[0] == &options[j].GetPodBytes()[0] }
	if !shares(0, 2) || shares(0, 1) || shares(0, 3) || &options[4].GetLegacyPod()[0] == &options[0].GetPodBytes()[0] {
		t.Errorf("shared: a and c %t, a and b %t, a and d %t", shares(0, 2), shares(0, 1), shares(0, 3))
	}
}

// TestLargeRequest: one that all cores read is the same, and what cannot be read is named.
func TestLargeRequest(t *testing.T) {
	t.Parallel()
	pods := [][]byte{make([]byte, 10_000), make([]byte, 20_000)}
	request := &expander.BestOptionsRequest{}
	for i := range 101 {
		request.Options = append(request.Options, &expander.Option{NodeGroupId: fmt.Sprintf("group-%d", i), PodBytes: pods})
	}
	encoded := marshal(t, request)
	if !proto.Equal(request, read(t, encoded, 16<<10)) {
		t.Error("it is read as another one than was sent")
	}
	request.Options[70].PodBytes = nil
	broken := protowire.AppendBytes(protowire.AppendTag(marshal(t, request), 1, protowire.BytesType), []byte{0xff})
	err := newCodec().Unmarshal(cut(broken, 16<<10), &expander.BestOptionsRequest{})
	if err == nil || !strings.Contains(err.Error(), "options[101]: ") {
		t.Errorf("a request whose last option is broken: %v", err)
	}
}

// TestBrokenRequests: what is cut off or no message at all is refused, and says where.
func TestBrokenRequests(t *testing.T) {
	t.Parallel()
	whole := marshal(t, &expander.BestOptionsRequest{Options: []*expander.Option{{NodeGroupId: "a", PodBytes: [][]byte{[]byte(padding)}}}})
	option := func(inside ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), inside)
	}
	for name, row := range map[string]struct {
		encoded []byte
		says    string
	}{
		"a message cut off":            {whole[:len(whole)-1], "field 1 has 37 bytes, but only 36 are left"},
		"a length cut off":             {[]byte{0x0a, 0x80}, "read field 1: "},
		"a tag cut off":                {[]byte{0x80}, "read a tag: "},
		"a number cut off":             {[]byte{0x10, 0x80}, "read field 2: "},
		"a length beyond any":          {append([]byte{0x0a}, protowire.AppendVarint(nil, 1<<63)...), "field 1 has 9223372036854775808 bytes"},
		"a pod longer than its option": {option(0x2a, 9, 'p'), "options[0]: "},
		"text that is not UTF-8":       {option(0x0a, 1, 0xff), "options[0]: "},
		"the end of a group":           {[]byte{0x0c}, "read field 1: "},
	} {
		for length := range 3 {
			err := newCodec().Unmarshal(cut(row.encoded, length+1), &expander.BestOptionsRequest{})
			if err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%s: %v, want %s", name, err, row.says)
			}
		}
	}
}

// TestOtherMessages: all other messages are read and written as without the codec.
func TestOtherMessages(t *testing.T) {
	t.Parallel()
	codec := newCodec()
	if codec.Name() != "proto" {
		t.Errorf("the codec is called %q; clients ask for proto", codec.Name())
	}
	want := &expander.BestOptionsResponse{Options: []*expander.Option{{NodeGroupId: "a", NodeCount: 2, Debug: "why"}}}
	encoded, err := codec.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &expander.BestOptionsResponse{}
	if err := codec.Unmarshal(encoded, got); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("response (-written +read):\n%s", diff)
	}
}

// FuzzRequest: no bytes make it panic, and what the library reads is read as the library does.
func FuzzRequest(f *testing.F) {
	for seed := range uint64(5) {
		f.Add(marshal(f, randomRequest(rand.New(rand.NewPCG(seed, 3)))), uint8(seed))
	}
	f.Fuzz(func(t *testing.T, encoded []byte, length uint8) {
		want, got := &expander.BestOptionsRequest{}, &expander.BestOptionsRequest{}
		err := newCodec().Unmarshal(cut(encoded, 1+int(length)), got)
		if proto.Unmarshal(encoded, want) != nil || len(want.ProtoReflect().GetUnknown()) > 0 {
			return
		}
		if refusal, is := errors.AsType[*wire.Refusal](err); is {
			mustExceed(t, refusal, want)
			return
		}
		if err != nil {
			t.Fatalf("it is refused, and need not be: %s", err)
		}
		want.NodeBytesMap, want.LegacyNodeMap = nil, nil
		if !proto.Equal(want, got) {
			t.Errorf("request (-library +ours):\n%s", gocmp.Diff(want, got, protocmp.Transform()))
		}
	})
}

// mustExceed fails the test unless a request is beyond the limit that it was refused for.
func mustExceed(t *testing.T, refusal *wire.Refusal, request *expander.BestOptionsRequest) {
	t.Helper()
	longest, smallest, largest := 0, 32, 0
	for _, o := range request.GetOptions() {
		longest = max(longest, len(o.GetNodeGroupId()))
		for _, pod := range slices.Concat(o.GetPodBytes(), o.GetLegacyPod()) {
			smallest, largest = min(smallest, len(pod)), max(largest, len(pod))
		}
	}
	exceeds := map[wire.Reason]bool{
		wire.ReasonOptions: len(request.GetOptions()) > 10_000, wire.ReasonName: longest > 253, wire.ReasonPodSize: smallest < 32 ||
			largest > 3<<20,
	}
	if !exceeds[refusal.Reason] {
		t.Errorf("it is refused for %s and need not be: %s", refusal.Reason, refusal)
	}
}
