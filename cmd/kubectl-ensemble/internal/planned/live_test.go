package planned_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/planned"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// patience is how long anything may take on a busy machine.
const patience = 5 * time.Minute

// desk is where a user sits who may read, and not write.
type desk struct {
	*testing.T
	*system.System
}

// reads are the kinds that the planner sees, for a role.
var reads = []rbacv1.PolicyRule{
	{APIGroups: []string{v1alpha1.Group}, Resources: []string{"ensemblemembers", "nodepools", "poolmachines"}, Verbs: []string{"list"}},
	{APIGroups: []string{"flux-framework.org"}, Resources: []string{"miniclusters"}, Verbs: []string{"list"}},
	{APIGroups: []string{"jobset.x-k8s.io"}, Resources: []string{"jobsets"}, Verbs: []string{"list"}},
	{APIGroups: []string{""}, Resources: []string{"nodes", "namespaces", "pods"}, Verbs: []string{"list"}},
	{APIGroups: []string{"apps"}, Resources: []string{"daemonsets"}, Verbs: []string{"list"}},
	{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"list"}},
}

// TestDocumentedRights: the rights that the documentation says are enough are those with which TestPlanIsWhatHappens asks.
func TestDocumentedRights(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../../../docs/kubectl-ensemble.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "These rights are enough for it:\n\n```yaml\n")
	block, _, _ := strings.Cut(rest, "```")
	var documented rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict([]byte(block), &documented); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(reads, documented.Rules); diff != "" {
		t.Errorf("the rights in docs/kubectl-ensemble.md are not those that are asked with (-asked +documented):\n%s", diff)
	}
}

// grant gives a user rights, in one namespace or in all.
func (d *desk) grant(user, namespace string, rules ...rbacv1.PolicyRule) {
	d.Helper()
	grant(d.T, d.Client, user, namespace, rules...)
}

// grant gives a user rights as an administrator, in one namespace or in all.
func grant(t testing.TB, admin client.Client, user, namespace string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	name := strings.TrimSuffix(user+"-"+namespace, "-")
	objects := []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: user}},
		},
	}
	if namespace != "" {
		objects[1] = &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: name,
			}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: user}},
		}
	}
	for _, object := range objects {
		if err := admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// plan runs the command as a user.
func (d *desk) plan(user string, args ...string) (*whatif.Answer, error) {
	d.Helper()
	var out bytes.Buffer
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig, flags.Impersonate = &d.Kubeconfig, &user
	env := &cli.Environment{
		Flags: flags, Streams: genericiooptions.IOStreams{Out: &out, ErrOut: &out}, Version: "test", Now: time.Now, Output: cli.OutputJSON,
	}
	cmd := planned.New(env)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	if err := cmd.ExecuteContext(d.Context()); err != nil {
		return nil, err
	}
	answer := &whatif.Answer{}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		d.Fatalf("%v: %s", err, out.String())
	}
	return answer, nil
}

// must is plan for what has to be answered.
func (d *desk) must(args ...string) *whatif.Answer {
	d.Helper()
	answer, err := d.plan("reader", args...)
	if err != nil {
		d.Fatal(err)
	}
	return answer
}

func (d *desk) until(missing func(context.Context) (string, error)) {
	d.Helper()
	inprocess.UntilWithin(d.T, patience, 50*time.Millisecond, missing)
}

// rest waits until a member is Ready at a size, and returns what is reserved for it, in words.
func (d *desk) rest(name string, size int32) string {
	d.Helper()
	var m v1alpha1.EnsembleMember
	d.until(func(ctx context.Context) (string, error) {
		if err := d.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, &m); err != nil {
			return err.Error(), client.IgnoreNotFound(err)
		}
		ready := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != m.Generation || m.Status.Size != size {
			return fmt.Sprintf("%s has size %d: %+v", name, m.Status.Size, ready), nil
		}
		return "", nil
	})
	return m.Status.Pools
}

// resize sets the desired size of a member.
func (d *desk) resize(name string, size int32) {
	d.Helper()
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"size":%d}}`, size))
	if err := d.Client.Patch(
		d.Context(), &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}, patch,
	); err != nil {
		d.Fatal(err)
	}
}

// reservedThen is what an answer says that is reserved, as the status of a member has it.
func reservedThen(a *whatif.Answer) string {
	var words []string
	for _, p := range a.Pools {
		if p.After > 0 {
			words = append(words, fmt.Sprintf("%s %d", p.Name, p.After))
		}
	}
	return strings.Join(words, ", ")
}

// reason is an error in words, for what is waited for until there is none.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestPlanIsWhatHappens asks as a user who may write nothing, then does it, and compares.
func TestPlanIsWhatHappens(t *testing.T) {
	t.Parallel()
	s, err := system.Start(
		t.Context(), system.Options{Progress: os.Stderr, LogDir: t.ArtifactDir(), AutoscalerFlags: []string{"--scan-interval=1s"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	d := &desk{T: t, System: s}
	d.grant("reader", "", reads...)
	pools, err := s.ObjectsOf("examples/nodepools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, pool := range pools {
		// hpc-a has room for 4, so that a growth to 8 takes both.
		if err := unstructured.SetNestedField(pool.Object, "1s", "spec", "machines", "kwok", "bootDelay"); err != nil {
			t.Fatal(err)
		}
		if pool.GetName() == "hpc-a" {
			if err := unstructured.SetNestedField(pool.Object, int64(4), "spec", "maxSize"); err != nil {
				t.Fatal(err)
			}
		}
	}
	clusters, err := s.ObjectsOf("examples/minicluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	demo := clusters[0]
	demo.SetAnnotations(map[string]string{v1alpha1.AnnotationNodePools: "hpc-a,hpc-b"})
	if err := s.Apply(t.Context(), append(slices.Clone(pools), demo)...); err != nil {
		t.Fatal(err)
	}
	d.rest("demo", 2)

	// A growth within the first pool, whose machines have been measured by now.
	a := d.must("demo", "--grow", "2")
	if a.Outcome != whatif.Granted || a.Asked != 4 || a.PricePerHour != "0.40" || a.Pools[0].Measured.Machines != 2 ||
		a.Pools[0].Order != 2 || a.Limited != "" {
		t.Errorf("a growth by 2 is %+v", a)
	}
	want := reservedThen(a)
	d.resize("demo", 4)
	if got := d.rest("demo", 4); got != want || got != "hpc-a 4" {
		t.Errorf("%s is reserved, and the plan was %s", got, want)
	}

	// One that no pool has for itself.
	a = d.must("demo", "--size", "8")
	if a.Outcome != whatif.Granted || a.PricePerHour != "1.40" || !strings.Contains(
		a.Pools[0].Refusal, "maxSize 4",
	) || !strings.Contains(a.Ready, "not measured yet, at most 5m0s") {
		t.Errorf("a growth to 8 is %+v", a)
	}
	want = reservedThen(a)
	d.resize("demo", 8)
	if got := d.rest("demo", 8); got != want || got != "hpc-a 4, hpc-b 4" {
		t.Errorf("%s is reserved, and the plan was %s", got, want)
	}

	// A clamp, and a MiniCluster that does not exist yet: what is left is too little for it.
	if a = d.must("demo", "--grow", "100"); a.Asked != 10 || a.Limited != "limited to 10 by spec.maxSize" {
		t.Errorf("a growth by 100 is %+v", a)
	}
	other := demo.DeepCopy()
	other.SetName("other")
	spec := map[string]any{"minSize": int64(7), "maxSize": int64(9)}
	for field, value := range spec {
		if err := unstructured.SetNestedField(other.Object, value, "spec", field); err != nil {
			t.Fatal(err)
		}
	}
	text, err := yaml.Marshal(other.Object)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "minicluster.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	a = d.must("--filename", file)
	if a.Outcome != whatif.Refused || a.Asked != 7 || a.Reason != v1alpha1.ReasonPoolFull || len(a.Pools) != 2 || a.Pools[1].Refusal == "" {
		t.Errorf("a MiniCluster of 7 is %+v", a)
	}

	// A shrink, after which there is room for the other one.
	a = d.must("demo", "--shrink", "5")
	if a.Outcome != whatif.Shrinks || len(a.Leaves) != 5 || a.Leaves[0].Rank != 7 || !strings.HasPrefix(a.PricePerHour, "-") {
		t.Errorf("a shrink by 5 is %+v", a)
	}
	want = reservedThen(a)
	d.resize("demo", 3)
	if got := d.rest("demo", 3); got != want {
		t.Errorf("%s is reserved, and the plan was %s", got, want)
	}
	// When the nodes that were given back are gone, nothing changes any more by itself.
	d.until(func(ctx context.Context) (string, error) {
		var pools v1alpha1.NodePoolList
		if err := d.Client.List(ctx, &pools); err != nil {
			return "", err
		}
		for i := range pools.Items {
			if status := &pools.Items[i].Status; status.Replicas != status.Reserved || status.Ready != status.Reserved {
				return fmt.Sprintf(
					"%s has %d machines, %d of them Ready, for %d", pools.Items[i].Name, status.Replicas, status.Ready, status.Reserved,
				), nil
			}
		}
		return "", nil
	})
	if a = d.must("--filename", file); a.Outcome != whatif.Granted {
		t.Errorf("a MiniCluster of 7 is %+v", a)
	}
	want = reservedThen(a)
	if err := s.Apply(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if got := d.rest("other", 7); got != want {
		t.Errorf("%s is reserved, and the plan was %s", got, want)
	}
	if _, err := d.plan("reader", "--filename", file); err == nil || !strings.Contains(
		err.Error(), "MiniCluster default/other exists already",
	) {
		t.Errorf("of one that exists it says %v", err)
	}

	// Rights that are missing are named: with those in one namespace it is planned with what is known, and without nodes it is not.
	if _, err := d.plan("nobody", "demo", "--grow", "1"); err == nil || !strings.Contains(err.Error(), "no right to list nodes") ||
		!strings.Contains(err.Error(), "no right to list ensemblemembers.autoscaling.flux-framework.org in namespace default") {
		t.Errorf("nobody is told %v", err)
	}
	d.grant("tenant", "", rbacv1.PolicyRule{
		APIGroups: []string{v1alpha1.Group}, Resources: []string{"nodepools", "poolmachines"}, Verbs: []string{"list"},
	},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}})
	d.grant("tenant", "default", reads...)
	d.until(func(context.Context) (string, error) {
		// The API server learns of rights by watching.
		var refused error
		a, refused = d.plan("tenant", "demo", "--size", "10")
		return reason(refused), nil
	})
	var missing []string
	for _, right := range a.MissingRights {
		missing = append(missing, right.String())
	}
	for _, right := range []string{"no right to list pods", "no right to list namespaces", "no right to list daemonsets.apps"} {
		if !slices.Contains(missing, right) {
			t.Errorf("%q is not named: %q", right, missing)
		}
	}
	if whole := d.must("demo", "--size", "10"); whole.Outcome != a.Outcome || reservedThen(whole) != reservedThen(a) {
		t.Errorf("the tenant is told %+v, and the reader %+v", a, whole)
	}
}
