package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	holds "github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/estate"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// expandTiming is what a question to the expander costs.
type expandTiming struct {
	// Options is the number of options, Pods that of the pods of each.
	Options, Pods int
	// Bytes is the size of the question.
	Bytes int
	// Calls is the number of questions, P50 and P99 how long they took.
	Calls    int
	P50, P99 time.Duration
}

// expanderResult is what questions of several sizes cost.
type expanderResult struct {
	load    string
	after   harness.Memory
	timings []expandTiming
}

func (r *expanderResult) print(out io.Writer) error {
	t := figures.NewTable("options", "pods each", "question MiB", "calls", "p50 ms", "p99 ms")
	for i := range r.timings {
		x := &r.timings[i]
		t.Add(
			figures.Thousands(x.Options), figures.Thousands(x.Pods), figures.Mebibytes(int64(x.Bytes)), figures.Thousands(x.Calls),
			figures.Milliseconds(x.P50), figures.Milliseconds(x.P99),
		)
	}
	_, err := fmt.Fprintf(out, `Questions to the expander (load average before: %s; peak of the provider's memory after them %s MiB)

%s
The expander is asked over TLS, on a connection of its own. Most of the time is for encoding, encrypting and
sending the question, which has all pods once for each option. What the provider does with one that it has
received: go test -bench BestOptions ./provider/server.

`, r.load, figures.Mebibytes(r.after.Peak), t)
	return err
}

// expands asks the expander questions of several sizes, up to an option for each group with 1,000 pods.
func (p *player) expands(ctx context.Context) (timings []expandTiming, err error) {
	connection, err := p.order.Client.dial(p.order.Expander)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	client := expander.NewExpanderClient(connection)
	const pods = 1000
	for _, divisor := range []int{100, 10, 1} {
		x := expandTiming{Options: fraction(p.order.Size.Groups, divisor), Pods: fraction(pods, divisor)}
		_, _ = fmt.Fprintf(
			p.progress, "measuring BestOptions for %s options of %s pods\n", figures.Thousands(x.Options), figures.Thousands(x.Pods),
		) // Progress that nobody reads is no error.
		question, err := optionsOf(x.Options, x.Pods)
		if err != nil {
			return nil, err
		}
		x.Bytes = proto.Size(question)
		if err := x.measure(ctx, client, question); err != nil {
			return nil, err
		}
		timings = append(timings, x)
	}
	return timings, nil
}

// measure asks one question after the other.
func (x *expandTiming) measure(ctx context.Context, client expander.ExpanderClient, question *expander.BestOptionsRequest) error {
	const unmeasured = 5
	var durations []time.Duration
	for i := range fewest + unmeasured {
		if i == unmeasured {
			runtime.GC()
			durations = durations[:0]
		}
		before := time.Now()
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		answer, err := client.BestOptions(ctx, question, grpc.WaitForReady(true))
		cancel()
		switch {
		case err != nil:
			return fmt.Errorf("BestOptions: %w", err)
		case len(answer.GetOptions()) != x.Options:
			return fmt.Errorf(
				"BestOptions keeps %d of %d options; all pods tolerate all taints and are those of nobody", len(answer.GetOptions()), x.Options,
			)
		}
		durations = append(durations, time.Since(before))
	}
	x.Calls, x.P50, x.P99 = len(durations), figures.Percentile(durations, 50), figures.Percentile(durations, 99)
	return nil
}

// optionsOf is a question with an option for each of the first groups, all of which have the same pods.
func optionsOf(groups, pods int) (*expander.BestOptionsRequest, error) {
	encoded := make([][]byte, pods)
	controls := true
	for i := range encoded {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("job-%03d-7xk2p", i), Namespace: "default",
				OwnerReferences: []metav1.OwnerReference{
					{APIVersion: "batch/v1", Kind: "Job", Name: fmt.Sprintf("job-%03d", i), Controller: &controls},
				},
			},
			Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: "example.com/dedicated", Operator: corev1.TolerationOpExists}}},
		}
		var err error
		if encoded[i], err = pod.Marshal(); err != nil {
			return nil, fmt.Errorf("marshal a pod: %w", err)
		}
	}
	question := &expander.BestOptionsRequest{}
	for group := range groups {
		question.Options = append(question.Options, &expander.Option{NodeGroupId: holds.PoolName(group), NodeCount: 1, PodBytes: encoded})
	}
	return question, nil
}
