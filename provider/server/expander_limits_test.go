package server

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

// tolerant is a pod that tolerates so much, each with a key of its own.
func tolerant(tb testing.TB, name string, tolerations int) []byte {
	tb.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	for i := range tolerations {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Key: fmt.Sprintf("%s-%d", name, i)})
	}
	encoded, err := pod.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return encoded
}

// TestBestOptionsBounds: what is kept of the pods of a request is bounded, by flags that the answer names, and each refusal is counted.
func TestBestOptionsBounds(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		pods   [][]byte
		reason wire.Reason
		says   string
	}{
		"too many pods": {
			[][]byte{tolerant(t, "a", 0), tolerant(t, "b", 0), tolerant(t, "c", 0), tolerant(t, "d", 0), tolerant(t, "e", 0)}, wire.ReasonPods,
			"there are more than 4 different pods (--max-expander-pods)",
		},
		"too many tolerations": {
			[][]byte{tolerant(t, "a", 4)}, wire.ReasonTolerations, "there are more than 3 tolerations (--max-expander-tolerations)",
		},
		"too many tolerations in all": {
			[][]byte{tolerant(t, "a", 3), tolerant(t, "b", 2)}, wire.ReasonTolerations, "there are more than 4 different tolerations",
		},
		"the same tolerations, no end": {[][]byte{tolerant(t, "a", 3), tolerant(t, "a", 3), tolerant(t, "b", 1)}, "", ""},
	} {
		e := newExpander(t, false, "a")
		e.limits = wire.Limits{Options: 1, Pods: 4, PodsListed: 100, Tolerations: 3}
		_, err := e.BestOptions(t.Context(), &expander.BestOptionsRequest{Options: []*expander.Option{{NodeGroupId: "a", PodBytes: row.pods}}})
		if row.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want InvalidArgument with %s", name, err, row.says)
		}
		if count := testutil.ToFloat64(e.refused.WithLabelValues(string(row.reason))); count != 1 {
			t.Errorf("%s: %g were counted", name, count)
		}
	}
}

// TestLargestRequest: a request at the limits is answered, and takes no more than 192 MiB, temporary memory included, beside its bytes:
// all of its pods are small and different, and each is of a Job of its own.
func TestLargestRequest(t *testing.T) {
	e := newExpander(t, false, "a")
	pods := make([][]byte, e.limits.Pods)
	for i := range pods {
		pods[i] = encoded(t, "p", fmt.Sprint(i))
	}
	received := pieces(t, &expander.BestOptionsRequest{Options: []*expander.Option{{NodeGroupId: "a", PodBytes: pods}}})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var request expander.BestOptionsRequest
	if err := wire.NewCodec(e.limits, e.refuse).Unmarshal(received, &request); err != nil {
		t.Fatal(err)
	}
	if _, err := e.BestOptions(t.Context(), &request); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	took := int(after.TotalAlloc - before.TotalAlloc)
	t.Logf("%d pods of %d bytes: %d bytes allocated", len(request.GetOptions()[0].GetPodBytes()), received.Len(), took)
	if most := 192 << 20; took > received.Len()+most {
		t.Errorf("a request of %d bytes took %d bytes", received.Len(), took)
	}
}

// TestCompressedRequests: a request that is compressed is refused before it is decompressed, whatever the compression. Sent plainly
// it is answered.
func TestCompressedRequests(t *testing.T) {
	t.Parallel()
	e := newExpander(t, false, "a")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(append(e.ServerOptions(), grpc.MaxRecvMsgSize(64<<20))...)
	expander.RegisterExpanderServer(server, e)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	client := expander.NewExpanderClient(connection)
	request := &expander.BestOptionsRequest{Options: []*expander.Option{{NodeGroupId: "a", Debug: strings.Repeat("a", 32<<20)}}}
	_, err = client.BestOptions(t.Context(), request, grpc.UseCompressor(gzip.Name))
	if err == nil || !strings.Contains(err.Error(), "it is compressed; requests to the expander are sent as they are") {
		t.Errorf("a compressed request: %v", err)
	}
	if count := testutil.ToFloat64(e.refused.WithLabelValues(string(wire.ReasonCompressed))); count != 1 {
		t.Errorf("%g compressed requests were counted, not 1", count)
	}
	if _, err := client.BestOptions(t.Context(), request); err != nil {
		t.Errorf("the same as it is: %v", err)
	}
	// Any other that is registered would have to be refused too.
	for _, name := range []string{"deflate", "snappy", "zstd", "lz4", "br"} {
		if encoding.GetCompressor(name) != nil {
			t.Errorf("%s is registered", name)
		}
	}
}
