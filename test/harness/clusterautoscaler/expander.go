package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
)

// expanderTimeout is that of a question to an expander.
const expanderTimeout = 5 * time.Second

// grpcExpander asks another program which options to go on with.
type grpcExpander struct {
	client expander.ExpanderClient
	log    *slog.Logger
}

// dialExpander makes a connection with TLS on which nothing is sent yet. The file has the certificates that the server may
// be known by; it is shown none.
func dialExpander(url, certificates string, log *slog.Logger) (*grpcExpander, *grpc.ClientConn, error) {
	transport, err := credentials.NewClientTLSFromFile(certificates, "")
	if err != nil {
		return nil, nil, fmt.Errorf("--grpc-expander-cert %q: %w", certificates, err)
	}
	connection, err := grpc.NewClient(url, grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, nil, fmt.Errorf("--grpc-expander-url %q: %w", url, err)
	}
	return &grpcExpander{client: expander.NewExpanderClient(connection), log: log}, connection, nil
}

// best are the options that the expander goes on with. With an error it has no opinion.
func (e *grpcExpander) best(ctx context.Context, options []expansion, books *books) []expansion {
	request := &expander.BestOptionsRequest{NodeBytesMap: map[string][]byte{}}
	for i := range options {
		o := &options[i]
		option := &expander.Option{NodeGroupId: o.group.id, NodeCount: int32(o.count)}
		for _, pod := range o.pods {
			encoded, err := pod.Marshal()
			if err != nil {
				e.log.Error("pod cannot be encoded for the expander", "pod", pod.Name, "error", err)
				return options
			}
			option.PodBytes = append(option.PodBytes, encoded)
		}
		encoded, err := books.templates[o.group.id].Marshal()
		if err != nil {
			e.log.Error("template cannot be encoded for the expander", "group", o.group.id, "error", err)
			return options
		}
		request.NodeBytesMap[o.group.id] = encoded
		request.Options = append(request.Options, option)
	}
	ctx, cancel := context.WithTimeout(ctx, expanderTimeout)
	defer cancel()
	response, err := e.client.BestOptions(ctx, request)
	if err != nil {
		e.log.Warn("the expander has no opinion", "error", err)
		return options
	}
	kept := map[string]bool{}
	for _, o := range response.GetOptions() {
		kept[o.GetNodeGroupId()] = true
		e.log.Info("the expander goes on with a group", "group", o.GetNodeGroupId(), "reason", o.GetDebug())
	}
	var best []expansion
	for i := range options {
		if kept[options[i].group.id] {
			best = append(best, options[i])
		}
	}
	return best
}
