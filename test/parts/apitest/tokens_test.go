package apitest

import (
	"testing"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// withToken is a client with the token of a ServiceAccount, as the program has that runs under it.
func withToken(t *testing.T, name string) client.Client {
	t.Helper()
	config, err := server.plane.ServiceAccountConfig(t.Context(), "ensemble-autoscaler-system", name)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(config, client.Options{HTTPClient: transport, Mapper: server.client.RESTMapper()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOwnTokens: what the two programs can write with the tokens that they have, by the rights and the policies that are shipped together:
// what they do is allowed, and a program that somebody has taken over writes nothing else. Where the rights say no there is no policy, and
// where they cannot say it there is one.
func TestOwnTokens(t *testing.T) {
	applyManifest(t, "namespace", "namespace.yaml")
	for _, file := range [][2]string{
		{"provider", "rbac.yaml"}, {"provider", "admission.yaml"}, {"controller", "rbac.yaml"}, {"controller", "gates.yaml"},
	} {
		applyManifest(t, file[0], file[1])
	}
	provider, controller := withToken(t, "provider"), withToken(t, "controller")

	pooled := create(t, node(t, "token-pooled", poolLabel+": hpc", "", `providerID: "cloud://a/token-pooled"`))
	outside := create(t, node(t, "token-outside", "", "", `providerID: "cloud://a/token-outside"`))
	pool := create(t, edit(t, parse(t, validNodePool), `{metadata: {name: token-pool}}`))
	member := create(t, edit(t, parse(t, validMember), `{metadata: {name: token-member}}`))
	cluster := func(name, annotations string) string {
		return `{apiVersion: flux-framework.org/v1alpha2, kind: MiniCluster, metadata: {name: ` + name + `, namespace: default, annotations: {` +
			annotations + `}}, spec: {size: 2, maxSize: 4, containers: [{image: i}]}}`
	}
	managed := create(t, parse(t, cluster("token-managed", v1alpha1.AnnotationNodePools+": hpc")))
	unmanaged := create(t, parse(t, cluster("token-unmanaged", "")))
	pod := func(name, labels string) string {
		return `{apiVersion: v1, kind: Pod, metadata: {name: ` + name + `, namespace: default, labels: {` + labels + `}}, ` +
			`spec: {containers: [{name: c, image: i}], schedulingGates: [{name: ` + v1alpha1.SchedulingGate + `}]}}`
	}
	ofMember, foreign := create(t, parse(t, pod("token-member-0", v1alpha1.LabelMember+": m"))), create(t, parse(t, pod("token-foreign", "")))
	secret := create(t, parse(t, `{apiVersion: v1, kind: Secret, metadata: {name: token-secret, namespace: default}}`))
	job := parse(t, `{apiVersion: batch/v1, kind: Job, metadata: {name: token-job, namespace: default}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`)
	binding := parse(t, `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: token-all}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}, subjects: [{kind: ServiceAccount, name: provider, namespace: ensemble-autoscaler-system}]}`)
	another := parse(t, pod("token-new", v1alpha1.LabelMember+": m"))
	untilForbidden(t, deletion(provider, outside), deletion(controller, foreign), deletion(controller, managed))

	const released, mark = `{spec: {schedulingGates: null}}`, `{metadata: {annotations: {autoscaling.flux-framework.org/held-by: ns/m}}}`
	has := func(verb, resource string) []string {
		return []string{"cannot " + verb + ` resource "` + resource + `"`}
	}
	checkFences(t, map[string]fence{
		"provider: a mark on a node of a pool":   {patch(t, provider, pooled, mark), nil},
		"provider: deletion of such a node":      {deletion(provider, pooled), nil},
		"provider: the target of a NodePool":     {patch(t, provider, pool, `{spec: {replicas: 1}}`), nil},
		"provider: a mark on a node of nobody":   {patch(t, provider, outside, mark), []string{"writes no nodes but those with the label"}},
		"provider: deletion of a node of nobody": {deletion(provider, outside), []string{"deletes no nodes but those with the label"}},
		// By its rights, or by a policy where the component of simulated machines, which another test installs, has given it the right.
		"provider: a node":                       {creation(provider, node(t, "token-new", poolLabel+": hpc", "", "")), []string{"forbidden"}},
		"provider: deletion of a NodePool":       {deletion(provider, pool), has("delete", "nodepools")},
		"provider: deletion of a pod":            {deletion(provider, ofMember), has("delete", "pods")},
		"provider: the size of a member":         {patch(t, provider, member, `{spec: {size: 3}}`), has("patch", "ensemblemembers")},
		"provider: a MiniCluster":                {patch(t, provider, managed, `{spec: {size: 3}}`), has("patch", "miniclusters")},
		"provider: a Secret":                     {patch(t, provider, secret, `{data: {a: ""}}`), has("patch", "secrets")},
		"provider: all rights":                   {creation(provider, binding), has("create", "clusterrolebindings")},
		"controller: the size of a managed one":  {patch(t, controller, managed, `{spec: {size: 3}}`), nil},
		"controller: the gate of a member's pod": {patch(t, controller, ofMember, released), nil},
		"controller: the size of a member":       {patch(t, controller, member, `{spec: {size: 3}}`), nil},
		"controller: the size of another one":    {patch(t, controller, unmanaged, `{spec: {size: 3}}`), []string{"changes no MiniClusters but those"}},
		"controller: deletion of a user's":       {deletion(controller, managed), []string{"creates and deletes no MiniClusters but those"}},
		"controller: a foreign pod's gate":       {patch(t, controller, foreign, released), []string{"writes no pods but those with the label"}},
		"controller: deletion of a foreign pod":  {deletion(controller, foreign), []string{"writes no pods but those with the label"}},
		"controller: a pod":                      {creation(controller, another), has("create", "pods")},
		"controller: a Job":                      {creation(controller, job), has("create", "jobs")},
		"controller: a node":                     {patch(t, controller, pooled, mark), has("patch", "nodes")},
		"controller: deletion of a node":         {deletion(controller, pooled), has("delete", "nodes")},
		"controller: the target of a NodePool":   {patch(t, controller, pool, `{spec: {replicas: 1}}`), has("patch", "nodepools")},
		"controller: a Secret":                   {patch(t, controller, secret, `{data: {a: ""}}`), has("patch", "secrets")},
		"controller: all rights":                 {creation(controller, binding), has("create", "clusterrolebindings")},
	})
}
