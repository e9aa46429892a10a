package wire

import (
	"sync/atomic"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// NewAnswers returns the codec for a server of the cloud provider. The list of all node groups is asked for in every loop of Cluster
// Autoscaler and is the same until a pool changes, so its bytes are made once: the server that answers with the same message again
// must not have changed it. All other messages are left to the codec that gRPC has for them.
func NewAnswers() encoding.CodecV2 {
	return &answers{CodecV2: encoding.GetCodecV2(proto.Name)}
}

type answers struct {
	encoding.CodecV2
	last atomic.Pointer[encoded]
}

// encoded is a message and its bytes, of which nothing is changed.
type encoded struct {
	message *externalgrpc.NodeGroupsResponse
	bytes   mem.SliceBuffer
}

// Marshal implements encoding.CodecV2.
func (a *answers) Marshal(message any) (mem.BufferSlice, error) {
	groups, is := message.(*externalgrpc.NodeGroupsResponse)
	if !is {
		return a.CodecV2.Marshal(message) //nolint:wrapcheck // It is that codec.
	}
	last := a.last.Load()
	if last == nil || last.message != groups {
		slices, err := a.CodecV2.Marshal(groups)
		if err != nil {
			return nil, err //nolint:wrapcheck // It is that codec.
		}
		last = &encoded{groups, slices.Materialize()}
		slices.Free()
		a.last.Store(last)
	}
	return mem.BufferSlice{last.bytes}, nil
}
