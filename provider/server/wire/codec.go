// Package wire is what the provider's servers know of bytes. Requests to Cluster Autoscaler's gRPC expander are as large as 128 MiB
// and more, because each option has its pods whole, although most options have the same ones. Pods that an option shares with an
// earlier one are recognised in the bytes as they were received, and of a pod only what a choice depends on is decoded. Of the
// answers of the cloud provider the longest is encoded once for many questions.
package wire

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
)

// NewCodec returns the codec for a server of the expander. It reads requests to the expander within the limits, and leaves all other
// messages to the codec that gRPC has for them. In what it reads, options with the same pods share one slice of them, which must not
// be written to, and the nodes of the groups are left out, because no choice depends on them. Where a request is refused, the error
// has a reason, and refused is told of it.
func NewCodec(limits Limits, refused func(Reason)) encoding.CodecV2 {
	return codec{encoding.GetCodecV2(proto.Name), limits, refused}
}

type codec struct {
	encoding.CodecV2
	limits  Limits
	refused func(Reason)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, into any) error {
	request, is := into.(*expander.BestOptionsRequest)
	if !is {
		return c.CodecV2.Unmarshal(data, into) //nolint:wrapcheck // It is that codec.
	}
	if err := readRequest(data, &c.limits, request); err != nil {
		c.refused(ReasonOf(err))
		return err
	}
	return nil
}
