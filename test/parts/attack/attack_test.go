package attack

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// lasts is how long each attack lasts. make soak gives it more.
var lasts = flag.Duration("attack.for", 5*time.Second, "how long each attack lasts")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
		corev1.ResourcePods: resource.MustParse("110"),
	}
}

// The most memory that the programs may ever have had: their containers may have 1 GiB and 2 GiB. All of the latter is for questions to the
// expander that are as large as they may be, and as many as may be on their way.
const controllerBytes, providerBytes, withQuestions = 640 << 20, 512 << 20, 1800 << 20

// attacks are those that are played, one after the other, on each of the ports at which a program can be reached.
func attacks(s *system.System) [][]*attack {
	const (
		endpoint    = "/convergedcomputing.org.grpc.v1.EnsembleOperator/RequestStatus"
		bestOptions = "/grpcplugin.Expander/BestOptions"
		watch       = "/grpc.health.v1.Health/Watch"
	)
	h2 := []string{"h2"}
	large := make([]byte, 3<<20)
	return [][]*attack{
		{ // Requests without an end at the endpoint, from one pod and from many.
			{name: "unfinished requests of one pod", to: s.EndpointAddress, connections: 100, addresses: 1, do: unfinished(endpoint, 32, 20<<10)},
			{
				name: "unfinished requests that are too large", to: s.EndpointAddress, connections: 200, addresses: 20,
				do: unfinished(endpoint, 32, 60<<10),
			},
			{
				name: "unfinished requests of many pods", to: s.EndpointAddress, connections: 300, addresses: 150,
				do: unfinished(endpoint, 4, 20<<10),
			},
		},
		{ // Connections without a request.
			{name: "idle connections to the endpoint", to: s.EndpointAddress, connections: 1000, addresses: 100, do: unfinished("", 0, 0)},
			{name: "idle connections to the provider", to: s.ProviderAddress, connections: 500, addresses: 100, do: silent},
			{name: "handshakes with the provider that do not end", to: s.ProviderAddress, connections: 100, addresses: 1, do: begins(helloBytes)},
		},
		{ // The expander, which asks for no certificate.
			{name: "silent connections to the expander", to: s.ExpanderAddress, connections: 20, addresses: 2, do: silent},
			{name: "handshakes with the expander that do not end", to: s.ExpanderAddress, connections: 10, addresses: 1, do: begins(helloBytes)},
			{
				name: "large questions to the expander", to: s.ExpanderAddress, connections: 4, addresses: 4,
				do: overTLS(h2, unfinished(bestOptions, 1, 32<<20)),
			},
		},
		{ // Webhooks.
			{name: "handshakes with the webhooks that do not end", to: s.WebhookAddress, connections: 200, addresses: 50, do: begins(helloBytes)},
			{
				name: "large reviews", to: s.WebhookAddress, connections: 30, addresses: 10,
				do: overTLS(nil, posts("/validate-ensemble", 1+len(large), large)),
			},
			{
				name: "reviews that are small to send and large to decode", to: s.WebhookAddress, connections: 40, addresses: 20,
				do: overTLS(nil, posts("/validate-ensemble", len(manyMembers), manyMembers)),
			},
			{
				name: "reviews of many pools that do not exist", to: s.WebhookAddress, connections: 4, addresses: 1,
				do: overTLS(nil, posts("/validate-ensemble", len(manyPools), manyPools)),
			},
		},
		{ // Metrics.
			{name: "metrics of the controller", to: s.ControllerMetrics, connections: 60, addresses: 6, do: gets("/metrics")},
			{name: "metrics of the provider", to: s.ProviderMetrics, connections: 60, addresses: 6, do: gets("/metrics")},
			{
				name: "silent connections to metrics", to: s.ControllerMetrics, connections: 300, addresses: 100,
				do: begins("GET /metrics HTTP/1.1\r\nHost: "),
			},
		},
		{ // Health, of which anybody may ask, and which answers for as long as it is watched.
			{name: "watches of the endpoint's health", to: s.EndpointAddress, connections: 200, addresses: 50, do: whole(watch, 100, nil)},
			{
				name: "watches of the expander's health", to: s.ExpanderAddress, connections: 10, addresses: 5,
				do: overTLS(h2, whole(watch, 100, nil)),
			},
			{name: "probes of the controller", to: s.ControllerProbes, connections: 60, addresses: 6, do: gets("/readyz")},
			{
				name: "silent connections to the provider's probes", to: s.ProviderProbes, connections: 300, addresses: 100,
				do: begins("GET /readyz HTTP/1.1\r\nHost: "),
			},
		},
		{ // The last one, as nothing makes the peak of memory small again: whole questions that are as large as they may be.
			{
				name: "questions to the expander that are as large as they may be", to: s.ExpanderAddress, connections: 2, addresses: 2,
				do: overTLS(h2, whole(bestOptions, 1, largest())), providerBytes: withQuestions,
			},
		},
	}
}

// largest is a question to the expander of the size that is let in, of one option whose text for logs is nearly all of it.
func largest() []byte {
	const size = 256<<20 - 64
	debug := protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), bytes.Repeat([]byte("d"), size))
	option := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "attacked")
	question := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), uint64(len(option)+len(debug)))
	return append(append(question, option...), debug...)
}

// reviewOfMembers is how a review of an Ensemble begins, up to its members.
const reviewOfMembers = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE",` +
	`"kind":{"group":"ensemble.flux-framework.org","version":"v1alpha1","kind":"Ensemble"},` +
	`"object":{"apiVersion":"ensemble.flux-framework.org/v1alpha1","kind":"Ensemble",` +
	`"metadata":{"name":"e","namespace":"default"},"spec":{"members":[`

// manyPools is a review of an Ensemble whose members name thousands of NodePools that do not exist.
var manyPools = func() []byte {
	var b strings.Builder
	b.WriteString(reviewOfMembers)
	for i := range 256 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"minicluster":{"metadata":{"annotations":{"autoscaling.flux-framework.org/node-pools":"`)
		for j := range 16 {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "none-%d-%d", i, j)
		}
		b.WriteString(`"}},"spec":{"size":1,"containers":[{"image":"a"}]}}}`)
	}
	b.WriteString(`]}}}}`)
	return []byte(b.String())
}()

// manyMembers is a review of an Ensemble with sixty thousand members, each of two bytes: it is smaller than a review may be, and counts as
// nearly all that bodies may take when they are decoded.
var manyMembers = []byte(reviewOfMembers +
	strings.Repeat("{},", 60_000) + `{}]}}}}`)

// TestStrangers: whatever strangers do at the ports, both programs serve those whom they are for, and stay small.
func TestStrangers(t *testing.T) { //nolint:paralleltest // It measures.
	if runtime.GOOS != "linux" {
		t.Skip("the memory of a process is read from /proc, and strangers come from all of 127.0.0.0/8")
	}
	s, err := system.Start(t.Context(), system.Options{Progress: os.Stderr, LogDir: t.ArtifactDir(), WithoutPods: true, WithoutRaces: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Client.Create(t.Context(), nodePool("attacked")); err != nil {
		t.Fatal(err)
	}
	member(t, s, "attacked", memberIP)
	asking := victims(t, s)
	for _, v := range asking {
		// The caches come to know of the member in a moment.
		if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			err = v.ask(ctx)
			return err == nil, nil
		}); err != nil {
			t.Fatalf("%s, before any attack: %v", v.name, err)
		}
	}
	for number, together := range attacks(s) {
		name := together[0].name
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			play(t, s, number, together, asking)
		})
	}
	for address, servers := range map[string][]string{
		s.ControllerMetrics: {"EnsembleOperator", "Webhooks", "Metrics"}, s.ProviderMetrics: {"CloudProvider", "Expander", "Metrics"},
	} {
		text, err := s.Metrics(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		for _, server := range servers {
			if !turnedAway(text, server) {
				t.Errorf("nothing is counted as turned away by %s", server)
			}
		}
	}
}

// play plays some attacks at the same time, while the victims ask.
func play(t *testing.T, s *system.System, number int, together []*attack, asking []*victim) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *lasts)
	defer cancel()
	var group sync.WaitGroup
	for i, a := range together {
		t.Logf("%s: %d connections at a time from %d addresses", a.name, a.connections, a.addresses)
		group.Go(func() { a.run(ctx, 10*number+i) })
	}
	for _, v := range asking {
		v.took, v.failures = nil, nil
		group.Go(func() { v.run(ctx) })
	}
	group.Wait()
	for _, v := range asking {
		v.check(t)
	}
	for name, process := range map[string]struct{ pid, bound int }{
		"controller": {s.Controller.Pid(), controllerBytes}, "provider": {s.Provider.Pid(), max(providerBytes, together[0].providerBytes)},
	} {
		most := peak(t, process.pid)
		t.Logf("the %s has had %d MiB at most", name, most>>20)
		if most > process.bound {
			t.Errorf("the %s has had %d MiB, more than %d", name, most>>20, process.bound>>20)
		}
	}
	if !s.Controller.Running() || !s.Provider.Running() {
		t.Fatal("a program has ended")
	}
}

// turnedAway reports whether a page of metrics says that a server has turned something away.
func turnedAway(page, server string) bool {
	for line := range strings.Lines(page) {
		is := strings.HasPrefix(line, "ensemble_autoscaler_turned_away_total{") && strings.Contains(line, `server="`+server+`"`)
		if is && !strings.HasSuffix(line, " 0\n") {
			return true
		}
	}
	return false
}
