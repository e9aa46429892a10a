package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// PricingNodePrice is the pool's price per hour for the time asked for.
func (s *CloudProvider) PricingNodePrice(
	_ context.Context, request *externalgrpc.PricingNodePriceRequest,
) (*externalgrpc.PricingNodePriceResponse, error) {
	_, name, err := s.store.Find(request.GetNode().GetProviderID())
	if err != nil {
		return nil, internal(err)
	}
	if name == "" {
		// The node of a template has no machine, but it says which pool it is of.
		name = request.GetNode().GetLabels()[v1alpha1.LabelNodePool]
	}
	p, err := s.pool(name)
	if err != nil {
		return nil, err
	}
	span, err := span(request)
	if err != nil {
		return nil, err
	}
	price, err := nodegroup.NodePrice(p, span)
	if err != nil {
		return nil, priceError(err)
	}
	return &externalgrpc.PricingNodePriceResponse{Price: price}, nil
}

// PricingPodPrice is the pod's dominant share of the cheapest pool that fits it, for the time asked for.
func (s *CloudProvider) PricingPodPrice(
	_ context.Context, request *externalgrpc.PricingPodPriceRequest,
) (*externalgrpc.PricingPodPriceResponse, error) {
	encoded := request.GetPodBytes()
	if len(encoded) == 0 {
		encoded = request.GetLegacyPod()
	}
	var pod corev1.Pod
	if err := pod.Unmarshal(encoded); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the pod cannot be read: %v", err)
	}
	span, err := span(request)
	if err != nil {
		return nil, err
	}
	price, err := s.pools.list().prices.PodPrice(&nodegroup.PodNeeds{
		Requests:    resource.PodRequests(&pod, resource.PodResourcesOptions{}),
		Tolerations: pod.Spec.Tolerations, NodeSelector: pod.Spec.NodeSelector,
	}, span)
	if err != nil {
		return nil, priceError(err)
	}
	return &externalgrpc.PricingPodPriceResponse{Price: price}, nil
}

// spanned is a request that asks for a price. Cluster Autoscaler up to 1.34 sends its times in the old fields.
type spanned interface {
	GetStartTimestamp() *timestamppb.Timestamp
	GetEndTimestamp() *timestamppb.Timestamp
	GetLegacyStartTimestamp() []byte
	GetLegacyEndTimestamp() []byte
}

// span is the time that a price is asked for. The error has a status code.
func span(request spanned) (time.Duration, error) {
	from, err := instant("startTimestamp", request.GetStartTimestamp(), request.GetLegacyStartTimestamp())
	if err != nil {
		return 0, err
	}
	until, err := instant("endTimestamp", request.GetEndTimestamp(), request.GetLegacyEndTimestamp())
	if err != nil {
		return 0, err
	}
	if until.Before(from) {
		return 0, status.Errorf(
			codes.InvalidArgument, "endTimestamp %s is before startTimestamp %s", until.Format(time.RFC3339), from.Format(time.RFC3339),
		)
	}
	return until.Sub(from), nil
}

func instant(field string, stamp *timestamppb.Timestamp, legacy []byte) (time.Time, error) {
	if stamp != nil {
		if err := stamp.CheckValid(); err != nil {
			return time.Time{}, status.Errorf(codes.InvalidArgument, "%s: %v", field, err)
		}
		return stamp.AsTime(), nil
	}
	if len(legacy) == 0 {
		return time.Time{}, status.Errorf(codes.InvalidArgument, "%s is missing", field)
	}
	var t metav1.Time
	if err := t.Unmarshal(legacy); err != nil {
		return time.Time{}, status.Errorf(codes.InvalidArgument, "%s cannot be read: %v", field, err)
	}
	return t.Time, nil
}

// priceError is Unimplemented where there are no prices, which Cluster Autoscaler takes for "does without".
func priceError(err error) error {
	if errors.Is(err, nodegroup.ErrNoPrice) {
		return status.Error(codes.Unimplemented, err.Error())
	}
	return statusOf(fmt.Errorf("price: %w", err))
}
