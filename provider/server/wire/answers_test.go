package wire_test

import (
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	googleproto "google.golang.org/protobuf/proto"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

// TestAnswers encodes lists of groups, each of them twice and in turns, and a message of another kind: the bytes are those that the
// client's own codec reads the same message from.
func TestAnswers(t *testing.T) {
	groups := func(ids ...string) *externalgrpc.NodeGroupsResponse {
		list := &externalgrpc.NodeGroupsResponse{}
		for _, id := range ids {
			list.NodeGroups = append(list.NodeGroups, &externalgrpc.NodeGroup{Id: id, MinSize: 1, MaxSize: int32(len(id))})
		}
		return list
	}
	a, b, none := groups("hpc-a", "hpc-b"), groups("hpc-a", "hpc-b", "hpc-c"), groups()
	codec, reader := wire.NewAnswers(), encoding.GetCodecV2(proto.Name)
	for i, message := range []*externalgrpc.NodeGroupsResponse{a, a, b, a, none, none, b, b} {
		data, err := codec.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		got := &externalgrpc.NodeGroupsResponse{}
		if err := reader.Unmarshal(data, got); err != nil {
			t.Fatal(err)
		}
		data.Free()
		if !googleproto.Equal(got, message) {
			t.Errorf("message %d arrived as %v, want %v", i, got, message)
		}
	}
	size := &externalgrpc.NodeGroupTargetSizeResponse{TargetSize: 7}
	data, err := codec.Marshal(size)
	if err != nil {
		t.Fatal(err)
	}
	got := &externalgrpc.NodeGroupTargetSizeResponse{}
	if err := codec.Unmarshal(data, got); err != nil || got.GetTargetSize() != 7 {
		t.Errorf("a target size arrived as %v (%v), want 7", got, err)
	}
}
