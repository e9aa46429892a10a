package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	ensemblev1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// ensembleText is an ensemble.yaml that grows while jobs wait.
const ensembleText = `
logging: {heartbeat: 3}
jobs:
- {name: sleep, command: sleep 10, nodes: 1}
rules:
- {trigger: start, action: {name: submit, label: %s}}
- {trigger: metric, name: mean.sleep-pending, when: "> 5", action: {name: grow}}
`

// ensembleOf is an Ensemble whose members begin with these sizes and submit the jobs of a label.
func (x *tenant) ensembleOf(name, pool, label string, sizes ...int) string {
	var members strings.Builder
	for _, size := range sizes {
		fmt.Fprintf(&members, `
  - nodePools: [%s]
    ensemble: %q
    minicluster:
      spec:
        size: %d
        minSize: 1
        maxSize: 4
        interactive: true
        containers: [{image: "ubuntu:noble", resources: {requests: {cpu: "3"}}}]
`, pool, fmt.Sprintf(ensembleText, label), size)
	}
	return fmt.Sprintf(`
apiVersion: ensemble.flux-framework.org/v1alpha1
kind: Ensemble
metadata: {name: %s, namespace: %s}
spec:
  sidecar: {image: "not used", port: "50051"}
  members: %s`, name, x.namespace, members.String())
}

// submit applies YAML and returns what the API server says to it.
func (x *tenant) submit(yaml string) error {
	x.Helper()
	objects, err := system.Objects([]byte(yaml))
	if err != nil {
		x.Fatal(err)
	}
	return shared.Apply(x.Context(), objects...)
}

// ensembleSays waits until the Ensemble is as a user would want to read.
func (x *tenant) ensembleSays(name string, unmet func(*ensemblev1alpha1.Ensemble) string) {
	x.Helper()
	last := ""
	if err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		e := &ensemblev1alpha1.Ensemble{}
		if err := shared.Client.Get(ctx, x.key(name), e); err != nil {
			return false, err
		}
		last = unmet(e)
		return last == "", nil
	}); err != nil {
		x.Fatalf("%v: %s", err, last)
	}
}

// TestEnsemble: an Ensemble becomes MiniClusters, which ask for nodes and get them; what is wrong with one is refused
// by the API server, with the path of the fault.
func TestEnsemble(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	pool := x.pool("hpc", 10, "0s")
	if err := x.submit(
		x.ensembleOf("demo", pool, "slep", 2),
	); err == nil || !strings.Contains(
		err.Error(), "spec.members[0].ensemble.rules[0].action.label",
	) || !strings.Contains(err.Error(), "slep") {
		t.Errorf("an Ensemble with a fault is answered %v", err)
	}
	// A ConfigMap and a MiniCluster of the names of members are there already, and are not ours.
	x.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: demo-2, namespace: %s}, data: {mine: theirs}}", x.namespace)
	x.apply(
		"{apiVersion: flux-framework.org/v1alpha2, kind: MiniCluster, metadata: {name: demo-3, namespace: %s}, spec: {size: 1, containers: "+
			"[{image: theirs}]}}",
		x.namespace,
	)
	if err := x.submit(x.ensembleOf("demo", pool, "sleep", 2, 1, 1, 1)); err != nil {
		t.Fatal(err)
	}
	first, second := x.key("demo-0"), x.key("demo-1")
	x.atSize(first, 2)
	x.atSize(second, 1)
	x.ownService(first)
	x.ownService(second)
	x.ensembleSays("demo", func(e *ensemblev1alpha1.Ensemble) string {
		for _, c := range e.Status.Conditions {
			if c.Type == ensemblev1alpha1.ConditionMembersCreated && c.Reason == ensemblev1alpha1.ReasonNameTaken && strings.Contains(
				c.Message, "ConfigMap demo-2",
			) && strings.Contains(c.Message, "MiniCluster demo-3") {
				return ""
			}
		}
		return fmt.Sprintf("no condition says whose names are taken: %+v", e.Status.Conditions)
	})
	// A name that is free again is taken.
	x.remove(x.key("demo-3"))
	x.atSize(x.key("demo-3"), 1)

	// Two members, and another text.
	if err := x.submit(
		x.ensembleOf("demo", pool, "sleep", 2, 2),
	); err == nil || !strings.Contains(
		err.Error(), "spec.members[1].minicluster.spec.size: Forbidden: it is the size that the member begins with",
	) {
		t.Errorf("another first size is answered %v", err)
	}
	if err := x.submit(strings.ReplaceAll(x.ensembleOf("demo", pool, "sleep", 2, 1), "sleep 10", "sleep 20")); err != nil {
		t.Fatal(err)
	}
	planned := x.plan(first, "grow", 2)
	x.grant(first, "grow", 2)
	x.atSize(first, 4)
	x.asPlanned(first, planned)
	x.ensembleSays("demo", func(e *ensemblev1alpha1.Ensemble) string {
		if s := &e.Status; s.MembersReady != "2/2" || s.Size != 5 || s.Wants != 5 || s.Nodes != 5 || !strings.HasPrefix(
			s.Members[0].LastAction, "Grow by 2 to 4, by pod "+x.namespace+"/demo-0-0-",
		) {
			return fmt.Sprintf("the status is %+v", s)
		}
		return ""
	})

	x.tellQueue(first)
	x.byToken(second)

	// The last member goes, then all.
	if err := x.submit(x.ensembleOf("demo", pool, "sleep", 2)); err != nil {
		t.Fatal(err)
	}
	x.gone(second)
	if err := shared.Client.Delete(
		t.Context(), &ensemblev1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: x.namespace, Name: "demo"}},
	); err != nil {
		t.Fatal(err)
	}
	x.gone(first)
	x.nodes(pool, 0)
	x.removePool(pool)
	x.poolGone(pool)
}

// ownService waits until the brokers of a member can find each other: its headless Service leads to the pods of its Job.
func (x *tenant) ownService(member types.NamespacedName) {
	x.Helper()
	last := ""
	if err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		if err := shared.Client.List(
			ctx, &pods, client.InNamespace(member.Namespace), client.MatchingLabels{"job-name": member.Name},
		); err != nil {
			return false, err
		}
		if len(pods.Items) == 0 {
			last = "there are no pods"
			return false, nil
		}
		var service corev1.Service
		if err := shared.Client.Get(
			ctx, client.ObjectKey{Namespace: member.Namespace, Name: pods.Items[0].Spec.Subdomain}, &service,
		); client.IgnoreNotFound(err) != nil {
			return false, err
		}
		owner := metav1.GetControllerOf(&service)
		last = fmt.Sprintf(
			"the Service %q of its pods has the cluster IP %q and the selector %v, and belongs to %v", pods.Items[0].Spec.Subdomain,
			service.Spec.ClusterIP, service.Spec.Selector, owner,
		)
		return service.Spec.ClusterIP == corev1.ClusterIPNone && service.Spec.Selector["job-name"] == member.Name && owner != nil &&
			owner.Name == member.Name, nil
	}); err != nil {
		x.Fatalf("%s: %v: %s", member.Name, err, last)
	}
}

// tellQueue lets a member tell of its queue, and waits until the endpoint knows.
func (x *tenant) tellQueue(member types.NamespacedName) {
	x.Helper()
	lead := x.lead(member)
	last := ""
	if err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		shared.serving.RLock()
		defer shared.serving.RUnlock()
		response, err := shared.Ask(ctx, lead, func(ctx context.Context, c ensemble.EnsembleOperatorClient) (*ensemble.Response, error) {
			if _, err := c.RequestUpdate(
				ctx, &ensemble.UpdateRequest{Member: "minicluster", Name: member.Name, Payload: `{"queue": {"sched": 7}}`},
			); err != nil {
				return nil, err
			}
			return c.RequestStatus(ctx, &ensemble.StatusRequest{Member: "minicluster", Name: member.Name})
		})
		last = response.String()
		return strings.Contains(response.GetPayload(), `"sched":7`), err
	}); err != nil {
		x.Fatalf("%v: %s", err, last)
	}
}

// byToken grows a member as a ServiceAccount that may, over TLS.
func (x *tenant) byToken(member types.NamespacedName) {
	x.Helper()
	x.apply(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: resizer, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: resizer, namespace: %[1]s}
rules:
- {apiGroups: [autoscaling.flux-framework.org], resources: [ensemblemembers/scale], verbs: [update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: resizer, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: resizer}
subjects: [{kind: ServiceAccount, name: resizer, namespace: %[1]s}]
`, x.namespace)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"ensemble-autoscaler"}}}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: x.namespace, Name: "resizer"}}
	if err := shared.Client.SubResource("token").Create(x.Context(), account, request); err != nil {
		x.Fatal(err)
	}
	var secret corev1.Secret
	if err := shared.Client.Get(x.Context(), client.ObjectKey{Namespace: system.Namespace, Name: controllerSecret}, &secret); err != nil {
		x.Fatal(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(secret.Data["ca.crt"]) {
		x.Fatalf("Secret %s has no certificates to trust", controllerSecret)
	}
	connection, err := grpc.NewClient(
		shared.EndpointAddress, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: trusted})),
	)
	if err != nil {
		x.Fatal(err)
	}
	defer func() {
		if err := connection.Close(); err != nil {
			x.Error(err)
		}
	}()
	// The API server hears of new rights a little later.
	var response *ensemble.Response
	if err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		shared.serving.RLock()
		defer shared.serving.RUnlock()
		response, err = ensemble.NewEnsembleOperatorClient(connection).RequestAction(
			metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+request.Status.Token),
			&ensemble.ActionRequest{Member: "minicluster", Name: member.Name, Action: "grow"}, grpc.WaitForReady(true))
		return response.GetStatus() != ensemble.Response_DENIED, err
	}); err != nil || response.GetStatus() != ensemble.Response_SUCCESS {
		x.Fatalf("a ServiceAccount that may resize is answered %s, %v", response, err)
	}
	x.until(func(s *history.State) string { return notAtSize(s, member, 2) })
}

// controllerSecret is where the controller keeps its certificate.
const controllerSecret = "ensemble-autoscaler-controller-tls"

// TestCertificateOfTheController: a user empties the Secret, and the controller issues another certificate.
func TestCertificateOfTheController(t *testing.T) {
	t.Parallel()
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: system.Namespace, Name: controllerSecret}
	if err := shared.Client.Get(t.Context(), key, &secret); err != nil {
		t.Fatal(err)
	}
	before, whole := string(secret.Data[corev1.TLSCertKey]), secret.DeepCopy()
	secret.Data[corev1.TLSPrivateKeyKey] = []byte{}
	if err := shared.Client.Patch(t.Context(), &secret, client.MergeFrom(whole)); err != nil {
		t.Fatal(err)
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		if err := shared.Client.Get(ctx, key, &secret); err != nil {
			return false, err
		}
		return string(secret.Data[corev1.TLSCertKey]) != before && len(secret.Data[corev1.TLSPrivateKeyKey]) > 0, nil
	}); err != nil {
		t.Fatalf("no other certificate was issued: %v", err)
	}
}
