package apitest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
)

// TestFairness: what the controller writes as the one that leads, and its lease, waits in another queue than what strangers make it ask.
func TestFairness(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "manifests", "controller", "fairness.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	uids := map[string]string{}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		object := parse(t, document)
		create(t, object)
		if object.GetKind() == "FlowSchema" {
			uids[string(object.GetUID())] = object.GetName()
		}
	}
	config := rest.CopyConfig(server.config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:ensemble-autoscaler-system:controller",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:ensemble-autoscaler-system", "system:authenticated"},
	}
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	// It has no rights here. In which queue a request goes is decided before that is asked.
	queue := func(ctx context.Context, method, path string) (string, error) {
		request, err := http.NewRequestWithContext(ctx, method, config.Host+path, bytes.NewBufferString("{}"))
		if err != nil {
			return "", err
		}
		request.Header.Set("Content-Type", map[string]string{http.MethodPatch: "application/merge-patch+json"}[method])
		response, err := transport.Do(request)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(io.Discard, response.Body)
		if closed := response.Body.Close(); err == nil {
			err = closed
		}
		uid := response.Header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID)
		if name, has := uids[uid]; has {
			return name, err
		}
		return fmt.Sprintf("another, %s (%s)", uid, response.Status), err
	}
	const own, asked = "ensemble-autoscaler", "ensemble-autoscaler-asked"
	const members, clusters = "/apis/autoscaling.flux-framework.org/v1alpha1/namespaces/ns/ensemblemembers",
		"/apis/flux-framework.org/v1alpha2/namespaces/ns/miniclusters"
	// The API server learns of them by watching.
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		one, err := queue(ctx, http.MethodPatch, clusters+"/m")
		if err != nil {
			return false, err
		}
		other, err := queue(ctx, http.MethodGet, "/api/v1/namespaces/ns/pods/p")
		return one == own && other == asked, err
	}); err != nil {
		t.Fatalf("the queues are not used: %v", err)
	}
	for request, want := range map[string]string{
		"PATCH " + clusters + "/m":                                own,
		"GET " + clusters + "/m":                                  own,
		"PATCH " + members + "/m/status":                          own,
		"POST " + members:                                         own,
		"PATCH /api/v1/namespaces/ns/pods/p":                      own,
		"DELETE /api/v1/namespaces/ns/pods/p":                     own,
		"GET /api/v1/pods":                                        own,
		"GET /apis/events.k8s.io/v1/namespaces/ns/events":         own,
		"PUT /apis/coordination.k8s.io/v1/namespaces/ns/leases/l": own,
		"GET /apis/coordination.k8s.io/v1/namespaces/ns/leases/l": own,
		"GET /api/v1/namespaces/ns/pods/p":                        asked,
		"GET /api/v1/namespaces/ns/limitranges":                   asked,
		"GET /api/v1/namespaces/ns":                               asked,
		"GET " + members + "/m":                                   asked,
		"PATCH " + members + "/m":                                 asked,
		"PATCH /apis/autoscaling.flux-framework.org/v1alpha1/namespaces/ns/memberqueues/m": asked,
		"GET /apis/autoscaling.flux-framework.org/v1alpha1/nodepools":                      asked,
		"GET /apis/autoscaling.flux-framework.org/v1alpha1/nodepools/p":                    asked,
		"POST /apis/authentication.k8s.io/v1/tokenreviews":                                 asked,
		"POST /apis/authorization.k8s.io/v1/subjectaccessreviews":                          asked,
		"POST /apis/events.k8s.io/v1/namespaces/ns/events":                                 asked,
	} {
		method, path, _ := strings.Cut(request, " ")
		got, err := queue(t.Context(), method, path)
		if err != nil || got != want {
			t.Errorf("%s is in queue %s, %v; want %s", request, got, err, want)
		}
	}
}
