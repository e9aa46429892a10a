package apitest

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestRecordsOfMembers: a user who may do everything in his namespace may ask for a size, and not lose what was accepted: an EnsembleMember
// goes with its MiniCluster, and what the controller knows it by stays. Those who clean up, and who may do everything, are not held to
// that.
func TestRecordsOfMembers(t *testing.T) {
	for _, text := range []string{
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: tenant, namespace: default}, rules: [{apiGroups: [autoscaling.flux-framework.org], resources: [ensemblemembers], verbs: [get, list, create, update, patch, delete, deletecollection]}]}`,
		`{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: tenant, namespace: default}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}, subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: tenant}]}`,
	} {
		create(t, parse(t, text))
	}
	of := func(user string, groups ...string) client.Client {
		config := rest.CopyConfig(server.config)
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
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
	const owner = `ownerReferences: [{apiVersion: flux-framework.org/v1alpha2, kind: MiniCluster, name: record, uid: 5b1f0d6e-54a5-4f1c-9d51-5d3d36d7b8a2, controller: true}]`
	member := create(
		t,
		edit(
			t, parse(t, validMember),
			`{metadata: {name: record, `+owner+`, labels: {nodepool.autoscaling.flux-framework.org/hpc-a: ""}, annotations: {autoscaling.flux-framework.org/adopted-generation: "1"}}}`,
		),
	)
	ofJob := create(t, edit(t, parse(t, validMember), `{metadata: {name: job.sweep, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: sweep,
		uid: 5b1f0d6e-54a5-4f1c-9d51-5d3d36d7b8a3, controller: true}]}, spec: {target: {apiVersion: batch/v1, kind: Job, name: sweep}}}`))
	ofGroups := create(t, edit(t, parse(t, groupedMember), `{metadata: {name: crew.groups},
		spec: {target: {apiVersion: example.com/v1, kind: Crew, name: groups}}}`))
	applyManifest(t, "controller", "admission.yaml")
	t.Cleanup(func() { withdrawAdmission(t) })
	tenant := of("tenant")
	deletes := func(by client.Client) func(context.Context) error {
		return func(ctx context.Context) error { return by.Delete(ctx, member.DeepCopy(), client.DryRunAll) }
	}
	updates := func(by client.Client, change string) func(context.Context) error {
		return func(ctx context.Context) error { return by.Update(ctx, edit(t, member, change), client.DryRunAll) }
	}
	// The API server learns of policies by watching.
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		return apierrors.IsForbidden(deletes(tenant)(ctx)), nil
	}); err != nil {
		t.Fatalf("the policy is not enforced: %v", err)
	}
	goes := []string{"goes with it: delete MiniCluster record, or take its annotation autoscaling.flux-framework.org/node-pools away"}
	collector := of(
		"system:serviceaccount:kube-system:generic-garbage-collector", "system:serviceaccounts", "system:serviceaccounts:kube-system",
	)
	for name, row := range map[string]struct {
		write   func(context.Context) error
		refused []string
	}{
		"a user's deletion": {deletes(tenant), goes},
		"a user's deletion of all": {func(ctx context.Context) error {
			return tenant.DeleteAllOf(ctx, member.DeepCopy(), client.InNamespace("default"), client.DryRunAll)
		}, []string{"goes with it: delete "}},
		"a user's deletion of that of a Job": {
			func(ctx context.Context) error { return tenant.Delete(ctx, ofJob.DeepCopy(), client.DryRunAll) },
			[]string{"goes with it: delete Job sweep, or take its annotation"},
		},
		"the size of a group": {func(ctx context.Context) error {
			return tenant.Update(ctx, edit(t, ofGroups, `{spec: {size: 5, groups: [
				{name: leader, size: 1, minSize: 1, maxSize: 1}, {name: workers, size: 4, minSize: 2, maxSize: 8}]}}`), client.DryRunAll)
		}, nil},
		"the maximum of a group": {func(ctx context.Context) error {
			return tenant.Update(ctx, edit(t, ofGroups, `{spec: {groups: [
				{name: leader, size: 1, minSize: 1, maxSize: 2}, {name: workers, size: 3, minSize: 2, maxSize: 7}]}}`), client.DryRunAll)
		}, []string{"the groups in spec.groups are copied from the Crew; only their sizes can be set"}},
		"a unit": {func(ctx context.Context) error {
			return tenant.Update(ctx, edit(t, member, `{spec: {unit: 2}}`), client.DryRunAll)
		}, []string{"spec.unit is copied from the MiniCluster"}},
		"no owner of that of a Job": {
			func(ctx context.Context) error {
				return tenant.Update(ctx, edit(t, ofJob, `{metadata: {ownerReferences: null}}`), client.DryRunAll)
			},
			[]string{"the owner of an EnsembleMember is its Job"},
		},
		"the minimum of a Job": {
			func(ctx context.Context) error {
				return tenant.Update(ctx, edit(t, ofJob, `{spec: {minSize: 3}}`), client.DryRunAll)
			},
			[]string{"spec.minSize is copied from the Job; set its annotation autoscaling.flux-framework.org/min-size"},
		},
		"the maximum of a Job": {
			func(ctx context.Context) error {
				return tenant.Update(ctx, edit(t, ofJob, `{spec: {maxSize: 11}}`), client.DryRunAll)
			},
			[]string{"spec.maxSize is copied from the Job; set its annotation autoscaling.flux-framework.org/max-size"},
		},
		"the pools of a Job": {
			func(ctx context.Context) error {
				return tenant.Update(ctx, edit(t, ofJob, `{spec: {nodePools: [hpc-a]}}`), client.DryRunAll)
			},
			[]string{"spec.nodePools is copied from the Job; set its annotation autoscaling.flux-framework.org/node-pools"},
		},
		"one of a Job that is made by hand": {
			func(ctx context.Context) error {
				return tenant.Create(ctx, edit(t, parse(t, validMember), `{metadata: {name: job.other}, spec: {target: {apiVersion: batch/v1, kind: Job,
					name: other}}}`), client.DryRunAll)
			},
			[]string{"set the annotation autoscaling.flux-framework.org/node-pools on Job other"},
		},
		"another size":          {updates(tenant, `{spec: {size: 5}}`), nil},
		"a label of the user's": {updates(tenant, `{metadata: {labels: {team: a}, annotations: {note: mine}}}`), nil},
		"no owner": {
			updates(tenant, `{metadata: {ownerReferences: null}}`), []string{"the owner of an EnsembleMember is its MiniCluster"},
		},
		"no mark of a pool": {updates(tenant, `{metadata: {labels: null}}`), []string{"in which NodePools nodes may be held"}},
		"another mark of a pool": {
			updates(tenant, `{metadata: {labels: {nodepool.autoscaling.flux-framework.org/hpc-z: ""}}}`),
			[]string{"in which NodePools nodes may be held"},
		},
		"another generation": {
			updates(tenant, `{metadata: {annotations: {autoscaling.flux-framework.org/adopted-generation: "2"}}}`),
			[]string{"are the controller's"},
		},
		"the collector's deletion": {deletes(collector), nil},
		"an administrator's":       {deletes(server.client), nil},
		"an administrator's label": {updates(server.client, `{metadata: {labels: null}}`), nil},
	} {
		t.Run(name, func(t *testing.T) { judge(t, row.write(t.Context()), row.refused) })
	}
}
