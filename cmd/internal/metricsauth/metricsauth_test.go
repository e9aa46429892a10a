package metricsauth_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/metricsauth"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// cluster is the API server of all tests here. TestMain sets it once.
var cluster inprocess.Cluster

func TestMain(m *testing.M) { inprocess.Main(m, &cluster, 0) }

// token makes a ServiceAccount, and a token of it.
func token(t *testing.T, name string) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if err := cluster.Client.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Client.Delete(context.Background(), account); err != nil {
			t.Error(err)
		}
	})
	request := &authenticationv1.TokenRequest{}
	if err := cluster.Client.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

// TestMetricsAreForThoseWhoMay: over TLS, whoever may get /metrics reads them; the others are told what is missing, and what one that
// guesses costs the API server is bounded and keeps nobody else out.
func TestMetricsAreForThoseWhoMay(t *testing.T) {
	reader, other := token(t, "prometheus"), token(t, "other")
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "metrics-reader"}, Rules: []rbacv1.PolicyRule{
			{NonResourceURLs: []string{metricsauth.Path}, Verbs: []string{"get"}},
		},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "metrics-reader"}, RoleRef: rbacv1.RoleRef{
			APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "metrics-reader",
		},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: "prometheus"}},
	}
	if err := cluster.Client.Create(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Client.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "all of it") })
	a := &metricsauth.Authorization{Required: true}
	guarded, err := a.Guard(metrics, cluster.Client, clock.RealClock{}, prometheus.NewPedanticRegistry(), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(guarded)
	if server.TLS, err = a.TLS(); err != nil {
		t.Fatal(err)
	}
	server.StartTLS()
	defer server.Close()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // As Prometheus does.
	defer transport.CloseIdleConnections()
	get := func(authorization string) string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+metricsauth.Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", authorization)
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if closed := response.Body.Close(); err != nil || closed != nil {
			t.Fatal(err, closed)
		}
		return fmt.Sprint(response.StatusCode, " ", string(text))
	}
	const unknown = "401 the header Authorization has to be Bearer TOKEN, with the token of a ServiceAccount\n"
	for authorization, want := range map[string]string{
		"Bearer " + reader: "200 all of it",
		"Bearer " + other:  "403 the ServiceAccount may not get /metrics: bind it to the ClusterRole ensemble-autoscaler-metrics-reader\n",
		"Bearer nonsense":  unknown,
		"Bearer ":          unknown,
		reader:             unknown,
		"":                 unknown,
	} {
		if got := get(authorization); got != want {
			t.Errorf("with %.20q: %q, want %q", authorization, got, want)
		}
	}
	codes := map[string]int{}
	for i := range 50 {
		codes[get(fmt.Sprint("Bearer guess-", i))[:3]]++
	}
	if codes["401"] == 0 || codes["401"] > 10 || codes["401"]+codes["429"] != 50 {
		t.Errorf("50 guesses are answered %v", codes)
	}
	if got := get("Bearer " + reader); got != "200 all of it" {
		t.Errorf("after them who may is answered %q", got)
	}
}

// TestNotRequired: without the flag nothing stands before the metrics.
func TestNotRequired(t *testing.T) {
	metrics := http.NewServeMux()
	if got, err := (&metricsauth.Authorization{}).Guard(metrics, nil, nil, nil, logr.Discard()); err != nil || got != http.Handler(metrics) {
		t.Errorf("%T, %v", got, err)
	}
}
