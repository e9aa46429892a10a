package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

func messageCases() []Case {
	return []Case{
		changing("PricingNodePrice is linear in time",
			"PricingNodePrice is Unimplemented or a price that is not negative, of a node of the template and of a machine alike, and twice as "+
				"high for twice the time.",
			linearPrices),
		reading("PricingNodePrice reads the messages of old versions",
			"PricingNodePrice answers the same where the times are in the fields of Cluster Autoscaler up to 1.34.",
			func(ctx context.Context, c *caller) error {
				node, err := c.templateNode(ctx)
				if err != nil {
					return err
				}
				return agree(ctx, time.Hour,
					func(ctx context.Context, t times) (float64, error) { return c.nodePrice(ctx, node, t) },
					func(ctx context.Context, t times) (float64, error) { return c.nodePriceOld(ctx, node, t) })
			}),
		reading("PricingPodPrice reads the messages of old versions",
			"PricingPodPrice is Unimplemented or a price that is not negative, and the same where pod and times are in the fields of Cluster "+
				"Autoscaler up to 1.34.",
			func(ctx context.Context, c *caller) error {
				pod, err := smallPod().Marshal()
				if err != nil {
					return fmt.Errorf("encode the pod: %w", err)
				}
				return agree(ctx, time.Hour,
					func(ctx context.Context, t times) (float64, error) { return c.podPrice(ctx, pod, t) },
					func(ctx context.Context, t times) (float64, error) { return c.podPriceOld(ctx, pod, t) })
			}),
		reading("a message that cannot be read is refused",
			"Bytes that are no message get an error from every method, change nothing, and the server lives on.",
			garbage),
	}
}

// times are when a price begins and ends.
type times struct{ from, until time.Time }

func lasting(d time.Duration) times {
	from := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return times{from, from.Add(d)}
}

// old are the times as Cluster Autoscaler up to 1.34 sends them.
func (t times) old() (from, until []byte, err error) {
	if from, err = new(metav1.NewTime(t.from)).Marshal(); err == nil {
		until, err = new(metav1.NewTime(t.until)).Marshal()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encode the times: %w", err)
	}
	return from, until, nil
}

func (c *caller) nodePrice(ctx context.Context, node *externalgrpc.ExternalGrpcNode, t times) (float64, error) {
	answer, err := c.client.PricingNodePrice(ctx, &externalgrpc.PricingNodePriceRequest{
		Node: node, StartTimestamp: timestamppb.New(t.from), EndTimestamp: timestamppb.New(t.until),
	})
	return answer.GetPrice(), err
}

func (c *caller) nodePriceOld(ctx context.Context, node *externalgrpc.ExternalGrpcNode, t times) (float64, error) {
	from, until, err := t.old()
	if err != nil {
		return 0, err
	}
	answer, err := c.client.PricingNodePrice(
		ctx, &externalgrpc.PricingNodePriceRequest{Node: node, LegacyStartTimestamp: from, LegacyEndTimestamp: until},
	)
	return answer.GetPrice(), err
}

func (c *caller) podPrice(ctx context.Context, pod []byte, t times) (float64, error) {
	answer, err := c.client.PricingPodPrice(ctx, &externalgrpc.PricingPodPriceRequest{
		PodBytes: pod, StartTimestamp: timestamppb.New(t.from), EndTimestamp: timestamppb.New(t.until),
	})
	return answer.GetPrice(), err
}

func (c *caller) podPriceOld(ctx context.Context, pod []byte, t times) (float64, error) {
	from, until, err := t.old()
	if err != nil {
		return 0, err
	}
	answer, err := c.client.PricingPodPrice(
		ctx, &externalgrpc.PricingPodPriceRequest{LegacyPod: pod, LegacyStartTimestamp: from, LegacyEndTimestamp: until},
	)
	return answer.GetPrice(), err
}

// smallPod is a pod that fits any node.
func smallPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "conformance"},
		Spec: corev1.PodSpec{
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("1Mi"),
			}}}},
		},
	}
}

// templateNode is how Cluster Autoscaler names the node of a template when it asks for its price.
func (c *caller) templateNode(ctx context.Context) (*externalgrpc.ExternalGrpcNode, error) {
	template, err := c.template(ctx, c.group)
	if err != nil {
		return nil, err
	}
	if template == nil {
		return nil, fmt.Errorf("%w: there is no template", ErrSkipped)
	}
	return &externalgrpc.ExternalGrpcNode{
		Name: template.Name, ProviderID: template.Spec.ProviderID, Labels: template.Labels, Annotations: template.Annotations,
	}, nil
}

func linearPrices(ctx context.Context, c *caller) error {
	ids, err := c.runs(ctx, c.group, 1)
	if err != nil {
		return err
	}
	machine, err := c.registered(ctx, c.group, ids[0])
	if err != nil {
		return err
	}
	nodes := []*externalgrpc.ExternalGrpcNode{machine}
	switch template, err := c.templateNode(ctx); {
	case err == nil:
		nodes = append(nodes, template)
	case !errors.Is(err, ErrSkipped):
		return err
	}
	for _, node := range nodes {
		hour, err := c.nodePrice(ctx, node, lasting(time.Hour))
		if status.Code(err) == codes.Unimplemented {
			continue
		}
		if err != nil {
			return fmt.Errorf("PricingNodePrice of %s: %w", node.GetName(), err)
		}
		if hour < 0 {
			return fmt.Errorf("the price of an hour of %s is negative: %v", node.GetName(), hour)
		}
		for _, hours := range []int{0, 2, 24} {
			price, err := c.nodePrice(ctx, node, lasting(time.Duration(hours)*time.Hour))
			if err != nil {
				return fmt.Errorf("PricingNodePrice of %s for %d hours: %w", node.GetName(), hours, err)
			}
			if want := float64(hours) * hour; !near(price, want) {
				return fmt.Errorf("the price of %s is %v for an hour and %v for %d, not %v", node.GetName(), hour, price, hours, want)
			}
		}
	}
	return nil
}

// agree checks that both forms of a request for a price have the same answer.
func agree(ctx context.Context, d time.Duration, newForm, oldForm func(context.Context, times) (float64, error)) error {
	price, err := newForm(ctx, lasting(d))
	old, oldErr := oldForm(ctx, lasting(d))
	switch {
	case status.Code(err) == codes.Unimplemented && status.Code(oldErr) == codes.Unimplemented:
		return nil
	case err != nil:
		return fmt.Errorf("today's form: %w", err)
	case oldErr != nil:
		return fmt.Errorf("the form of old versions: %w", oldErr)
	case price < 0:
		return fmt.Errorf("the price is negative: %v", price)
	case !near(price, old):
		return fmt.Errorf("the price is %v, and %v in the form of old versions", price, old)
	}
	return nil
}

// near reports whether two prices are the same but for rounding.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(1, math.Abs(a), math.Abs(b)) }

// garbage sends each method bytes that no parser of messages takes.
func garbage(ctx context.Context, c *caller) error {
	for what, content := range map[string][]byte{
		"a tag that does not end":              {0xff, 0xff},
		"a field that is longer than the rest": {0x0a, 0x40, 'x'},
		"a wire type that there is not":        []byte("no message"),
	} {
		for _, method := range externalgrpc.CloudProvider_ServiceDesc.Methods {
			var reply []byte
			err := c.conn.Invoke(
				ctx, "/"+externalgrpc.CloudProvider_ServiceDesc.ServiceName+"/"+method.MethodName, content, &reply, grpc.ForceCodecV2(raw{}),
			)
			if err == nil || silent(err) {
				return fmt.Errorf("%s, sent to %s, was not refused: %w", what, method.MethodName, orGranted(err))
			}
		}
	}
	err := c.refresh(ctx)
	for _, group := range c.groups() {
		err = errors.Join(err, c.has(ctx, group, 0))
	}
	if err != nil {
		return fmt.Errorf("after messages that cannot be read: %w", err)
	}
	return nil
}

// raw sends bytes as they are and keeps those that come.
type raw struct{}

// Marshal implements encoding.CodecV2.
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	content, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(content)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (raw) Unmarshal(content mem.BufferSlice, v any) error {
	into, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T does not take bytes", v)
	}
	*into = content.Materialize()
	return nil
}

// Name implements encoding.CodecV2. It is that of messages, so that the server takes the bytes for one.
func (raw) Name() string { return "proto" }
