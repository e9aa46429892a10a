package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/status"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/explain"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// ages are those that tables print: they differ from run to run.
var ages = regexp.MustCompile(`\b\d+s\b`)

func TestStatus(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	create(t, pool("status-a", 2))
	create(t, d.member("demo", "status-a"))

	var lines []string
	for line := range strings.SplitSeq(d.must(t, "status"), "\n") {
		// Other tests have pools of their own.
		if !strings.HasPrefix(line, "POOL") && !strings.HasPrefix(line, "status-") && !strings.Contains(line, "demo") &&
			!strings.HasPrefix(line, "MEMBER") {
			continue
		}
		lines = append(lines, strings.Join(strings.Fields(ages.ReplaceAllString(line, "AGE")), " "))
	}
	want := []string{
		"POOL MIN MAX TARGET FLOOR NODES RESERVED READY REASON AGE",
		"status-a 0 10 2 8 2 8 False FloorNotMet AGE",
		"MEMBER DESIRED CURRENT NODES POOLS READY REASON AGE",
		"demo 8 2 2 status-a 8 False WaitingForNodes AGE",
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("status prints\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	wide := d.must(t, "status", "-A", "-o", "wide")
	says(t, wide, "MESSAGE", "2 of 8 nodes are Ready in status-a", "NAMESPACE", "the target size 2 is below the floor 8")
	if strings.Contains(wide, "\x1b") {
		t.Error("there are colours though it is printed to no terminal")
	}

	var s status.Status
	if err := json.Unmarshal([]byte(d.must(t, "status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Members) != 1 || s.Members[0].Desired != 8 || s.Members[0].Reason != v1alpha1.ReasonWaitingForNodes {
		t.Errorf("the members are %+v", s.Members)
	}
	_, err := d.run(t, "status", "-o", "xml")
	refused(t, err, `--output is "xml"`, "json, yaml or wide")
}

// TestExplain: the answer has what the objects say; what the reasons are, the tests of package explain have.
func TestExplain(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	create(t, pool("explain-a", 2))
	create(t, d.member("demo", "explain-a"))

	says(t, d.must(t, "explain", "demo"), "waits for Cluster Autoscaler: AutoscalerMissing", "Do: Run Cluster Autoscaler with")
	create(t, d.autoscaler("explain-a"))
	says(
		t, d.must(t, "explain", "demo"), "waits for Cluster Autoscaler: GroupBackoff", "QUOTA_EXCEEDED: no quota",
		"the target size 2 is below the floor 8",
	)

	// Cluster Autoscaler raises the target, and machines boot.
	p := &v1alpha1.NodePool{}
	if err := server.Client.Get(t.Context(), client.ObjectKey{Name: "explain-a"}, p); err != nil {
		t.Fatal(err)
	}
	p.Spec.Replicas = 8
	if err := server.Client.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	p.Status = pool("explain-a", 8).Status
	p.Status.ObservedGeneration = p.Generation
	if err := server.Client.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for number := 2; number < 8; number++ {
		create(t, machine("explain-a", number))
	}
	create(t, d.gated("demo", 2))
	says(t, d.must(t, "explain", "member/demo"),
		"waits for machines: Booting", "2 of 8 machines are Ready; the others: 6 Booting", "1 pod waits behind the gate", "Do: Wait: the "+
			"machines boot")
	says(t, d.must(t, "explain", "pod/demo-2"), "Pod "+d.namespace+"/demo-2 waits for machines: Booting")
	says(t, d.must(t, "explain", "explain-a"), "Pool explain-a waits for machines: Booting", d.namespace+"/demo 8")

	var e explain.Explanation
	if err := yaml.UnmarshalStrict([]byte(d.must(t, "explain", "demo", "-o", "yaml")), &e); err != nil {
		t.Fatal(err)
	}
	if e.WaitsFor != explain.Machines || len(e.Steps) != 9 || e.Do == "" {
		t.Errorf("as YAML it is %+v", e)
	}
	_, err := d.run(t, "explain", "nothing")
	refused(t, err, "no member, pool, pod or node is called nothing")
	_, err = d.run(t, "explain", "deployment/demo")
	refused(t, err, `"deployment" is no kind that can be explained`, "member/NAME")
	create(t, d.member("explain-a", "explain-a"))
	_, err = d.run(t, "explain", "explain-a")
	refused(t, err, "explain-a is the name of several: say member/explain-a or pool/explain-a")
}

// TestExplainWithoutMember: a workload without a member says why, as far as it does itself.
func TestExplainWithoutMember(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	job := func(name string, annotations map[string]string) *batchv1.Job {
		return &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: name, Annotations: annotations},
			Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "i"}},
			}}},
		}
	}
	create(t, job("plain", nil))
	create(t, job("waits", map[string]string{v1alpha1.AnnotationNodePools: "hpc"}))
	for name, says := range map[string][]string{
		"job/none":  {"no member is called job.none"},
		"job/plain": {"Job " + d.namespace + "/plain is not managed: it has no annotation " + v1alpha1.AnnotationNodePools},
		"jobs/waits": {
			"Job " + d.namespace + "/waits has no EnsembleMember", "or was not told to manage Jobs (--kinds",
		},
	} {
		_, err := d.run(t, "explain", name)
		refused(t, err, says...)
	}
}

func TestExplainNode(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	create(t, pool("node-a", 8))
	create(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "strange", Labels: map[string]string{v1alpha1.LabelNodePool: "node-a"}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	})
	says(t, d.must(t, "explain", "node/strange"), "Node strange waits for machine: StrangeNode", "no machine of node-a is this node")
}

// TestRights: what a user may not read is named, and what he may is told.
func TestRights(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	create(t, pool("rights-a", 2))
	create(t, d.member("demo", "rights-a"))

	nobody := d.as(t, "nobody-"+d.namespace)
	says(t, nobody.must(t, "status"), "no right to list nodepools.autoscaling.flux-framework.org",
		"no right to list ensemblemembers.autoscaling.flux-framework.org in namespace "+d.namespace)
	_, err := nobody.run(t, "explain", "demo")
	refused(t, err, "as far as can be seen: no right to get ensemblemembers.autoscaling.flux-framework.org in namespace "+d.namespace)
	_, err = nobody.run(t, "scale", "demo", "--size=4")
	refused(t, err, "EnsembleMember demo cannot be read: no right to get ensemblemembers")
	_, err = nobody.run(t, "pause", "rights-a")
	refused(t, err, "you have no right to patch nodepools.autoscaling.flux-framework.org")

	reader := "reader-" + d.namespace
	allow(t, reader, d.namespace, rbacv1.PolicyRule{
		APIGroups: []string{v1alpha1.Group}, Resources: []string{"ensemblemembers"}, Verbs: []string{"get", "list"},
	})
	some := d.as(t, reader)
	out := some.allowed(t, "explain", "demo")
	says(t, out, "demo waits for nodes: WaitingForNodes", "floor               Unknown  not known: no right to get "+
		"nodepools.autoscaling.flux-framework.org",
		"Not known: no right to get configmaps in namespace "+d.namespace, "Not known: no right to list pods in namespace "+d.namespace)
	_, err = some.run(t, "scale", "demo", "--size=4")
	refused(t, err, "you have no right to update ensemblemembers.autoscaling.flux-framework.org/scale in namespace "+d.namespace)
}

// TestDocumentedRights: with the rights that the documentation says are enough for status and explain nothing is unknown.
func TestDocumentedRights(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docs/kubectl-ensemble.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "This is enough for `status` and `explain`;")
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	block, _, _ := strings.Cut(rest, "```")
	var documented rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict([]byte(block), &documented); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, server.Config)
	create(t, pool("documented-rights", 2))
	create(t, d.member("demo", "documented-rights"))
	create(t, d.gated("demo", 2))
	create(t, d.autoscaler("documented-rights"))
	user := "documented-" + d.namespace
	allow(t, user, "", documented.Rules...)
	who := d.as(t, user)
	for _, command := range [][]string{
		{"status", "-A"}, {"explain", "demo"}, {
			"explain", "pool/documented-rights",
		}, {"explain", "pod/demo-2"}, {"grow", "demo", "1"}, {"pause", "documented-rights"},
	} {
		inprocess.Until(t, func(context.Context) (string, error) {
			// The API server learns of rights by watching.
			missing, err := who.run(t, command...)
			switch {
			case err != nil:
				missing = err.Error()
			case !strings.Contains(missing, "no right to"):
				missing = ""
			}
			return missing, nil
		})
	}
}

// TestAutoscalers: of several Cluster Autoscalers the one that knows the pool is told of, whatever may not be read of the others, or
// cannot.
func TestAutoscalers(t *testing.T) {
	t.Parallel()
	closed, open, of, old := newDesk(t, server.Config), newDesk(t, server.Config), newDesk(t, server.Config), newDesk(t, server.Config)
	create(t, open.autoscaler("another"))
	create(t, of.autoscaler("autoscalers-a"))
	text := old.autoscaler("autoscalers-a")
	text.Data["status"] = `Cluster-autoscaler status at 2026-11-23 12:00:00 +0000 UTC:
Cluster-wide:
  Health:      Healthy (ready=3 unready=0 notStarted=0 longNotStarted=0 registered=3 longUnregistered=0)
               LastProbeTime:      2026-11-23 12:00:00 +0000 UTC
               LastTransitionTime: 2026-11-23 11:00:00 +0000 UTC
`
	create(t, text)
	user := "autoscalers-" + closed.namespace
	for _, d := range []*desk{open, of, old} {
		allow(t, user, d.namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}})
	}
	config, err := server.Plane.UserConfig(user)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		of []*desk
		// in is where that which is told of is, nil for none; gaps are where it may not be read.
		in   *desk
		gaps []*desk
		err  string
	}{
		"one that may not be read is no gap beside ours": {of: []*desk{closed, of}, in: of},
		"the other order":                          {of: []*desk{of, closed}, in: of},
		"ours may be the one that may not be read": {of: []*desk{closed, open}, in: open, gaps: []*desk{closed}},
		"none may be read":                         {of: []*desk{closed}, gaps: []*desk{closed}},
		"an old one beside ours":                   {of: []*desk{open, old, of}, in: of},
		"an old one alone where a cloud has its":   {of: []*desk{closed, old}, gaps: []*desk{closed}},
		"an old one where ours should be": {
			of: []*desk{old, of}, err: "ConfigMap " + old.namespace + "/cluster-autoscaler-status: data.status is not the YAML",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var namespaces, gaps []string
			for _, d := range row.of {
				namespaces = append(namespaces, d.namespace)
			}
			for _, d := range row.gaps {
				gaps = append(gaps, "no right to get configmaps in namespace "+d.namespace)
			}
			all, err := cluster.New(config, namespaces)
			if err != nil {
				t.Fatal(err)
			}
			inprocess.Until(t, func(ctx context.Context) (string, error) {
				// The API server learns of rights by watching.
				reader := all.Afresh()
				told, err := reader.Autoscaler(ctx, "autoscalers-a")
				in := ""
				if told != nil {
					in = told.Namespace
				}
				want := ""
				if row.in != nil {
					want = row.in.namespace
				}
				var got []string
				for _, gap := range reader.Gaps() {
					got = append(got, gap.String())
				}
				if in != want || !slices.Equal(got, gaps) || (err != nil) != (row.err != "") ||
					(err != nil && !strings.Contains(err.Error(), row.err)) {
					return fmt.Sprintf("told is what is in %q (%v), with gaps %q", in, err, got), nil
				}
				return "", nil
			})
		})
	}
}

// TestRightsOfPods: a pod whose member may not be read is not told to be of none.
func TestRightsOfPods(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	create(t, d.member("demo", "rights-of-pods"))
	create(t, d.gated("demo", 2))
	user := "pods-" + d.namespace
	allow(t, user, d.namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list"}})
	out := d.as(t, user).allowed(t, "explain", "pod/demo-2")
	right := "no right to get ensemblemembers.autoscaling.flux-framework.org in namespace " + d.namespace
	says(
		t, out, "Pod "+d.namespace+"/demo-2 waits for pod: Gated", "Unknown  not known: "+right, "\nNot known: "+right,
		"Do: Ask an administrator",
	)
	if strings.Contains(out, "no EnsembleMember has it") {
		t.Errorf("what may not be read is told as a fact:\n%s", out)
	}
}

// TestRightsOfNodes: a taint that may be one of a template which may not be read is no fault, and the machine of the node is known.
func TestRightsOfNodes(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	p := pool("rights-of-nodes", 8)
	p.Spec.Template.Taints = []corev1.Taint{{Key: "example.com/dedicated", Effect: corev1.TaintEffectNoSchedule}}
	create(t, p)
	m := machine(p.Name, 0)
	m.Status.NodeName, m.Status.Conditions[0].Status, m.Status.Conditions[0].Reason = m.Name, metav1.ConditionTrue, v1alpha1.ConditionReady
	create(t, m)
	create(t, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: m.Name, Labels: map[string]string{v1alpha1.LabelNodePool: p.Name}},
		Spec:       corev1.NodeSpec{Taints: p.Spec.Template.Taints},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	})
	user := "nodes-" + d.namespace
	allow(t, user, "", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes", "pods"}, Verbs: []string{"get", "list"}},
		rbacv1.PolicyRule{APIGroups: []string{v1alpha1.Group}, Resources: []string{"poolmachines"}, Verbs: []string{"get", "list"}})
	out := d.as(t, user).allowed(t, "explain", "node/"+m.Name)
	right := "no right to get nodepools.autoscaling.flux-framework.org"
	says(
		t, out, "Node "+m.Name+": it waits for nothing", "machine "+m.Name+" is Ready", "its pool's template is not known: "+right,
		"\nNot known: "+right,
	)
}

func TestSizes(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	m := d.member("demo", "sizes-a")
	create(t, m)
	desired := func(want int32) {
		t.Helper()
		fresh := &v1alpha1.EnsembleMember{}
		if err := server.Client.Get(t.Context(), client.ObjectKeyFromObject(m), fresh); err != nil {
			t.Fatal(err)
		}
		if fresh.Spec.Size != want {
			t.Errorf("the desired size is %d, want %d", fresh.Spec.Size, want)
		}
	}
	says(t, d.must(t, "scale", "demo", "--size=4"), "ensemblemember/demo: the desired size is 4, it was 8")
	desired(4)
	says(t, d.must(t, "scale", "demo", "--size=4"), "the desired size is 4 already")
	says(t, d.must(t, "grow", "demo", "2"), "the desired size is 6, it was 4")
	desired(6)
	says(t, d.must(t, "grow", "demo", "9"), "limited to 10 by spec.maxSize; the desired size was 6")
	desired(10)
	_, err := d.run(t, "grow", "demo", "1")
	refused(t, err, "the desired size is 10 already, which is spec.maxSize of MiniCluster demo")
	says(t, d.must(t, "shrink", "demo", "3", "-o", "json"), `"from": 10`, `"to": 7`)
	desired(7)
	says(t, d.must(t, "shrink", "demo", "30"), "limited to 2 by spec.minSize")
	desired(2)
	_, err = d.run(t, "scale", "demo", "--size=11")
	refused(t, err, "--size is 11; it has to be from 2 to 10")
	_, err = d.run(t, "grow", "demo", "-1")
	if err == nil {
		t.Error("-1 is accepted")
	}
	_, err = d.run(t, "grow", "demo", "many")
	refused(t, err, `argument N is "many"; it has to be a number of pods of at least 1`)
	_, err = d.run(t, "scale", "absent", "--size=3")
	refused(t, err, "there is no EnsembleMember absent in namespace "+d.namespace, v1alpha1.AnnotationNodePools)
}

// TestSizeOfAGroup: of a member with several groups of pods one has to be named, and only its size changes, and the sum.
func TestSizeOfAGroup(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	m := d.member("grouped", "group-a")
	m.Spec.Groups = []v1alpha1.MemberGroup{
		{Name: "leader", Size: 2, MinSize: 1, MaxSize: 2}, {Name: "workers", Size: 6, MinSize: 1, MaxSize: 8, Unit: 2},
	}
	create(t, m)
	for _, row := range []struct {
		args    []string
		says    string
		refused string
	}{
		{
			args:    []string{"grow", "grouped", "1"},
			refused: "EnsembleMember grouped has several groups of pods; --group has to be one of leader, workers",
		},
		{args: []string{"grow", "grouped", "1", "--group=others"}, refused: `--group is "others"; it has to be one of leader, workers`},
		{args: []string{"grow", "grouped", "1", "--group=workers"}, refused: "argument N is 1; it has to be a multiple of 2"},
		{args: []string{"grow", "grouped", "2", "--group=workers"}, says: "the desired size of group workers is 8, it was 6"},
		{args: []string{"grow", "grouped", "2", "--group=workers"}, refused: "the desired size is 8 already"},
		{args: []string{"shrink", "grouped", "4", "--group=workers"}, says: "the desired size of group workers is 4, it was 8"},
		{args: []string{"scale", "grouped", "--size=3", "--group=workers"}, refused: "--size is 3; it has to be a multiple of 2"},
		{args: []string{"scale", "grouped", "--size=1", "--group=leader"}, says: "the desired size of group leader is 1, it was 2"},
	} {
		if row.refused == "" {
			says(t, d.must(t, row.args...), row.says)
			continue
		}
		_, err := d.run(t, row.args...)
		refused(t, err, row.refused)
	}
	fresh := &v1alpha1.EnsembleMember{}
	if err := server.Client.Get(t.Context(), client.ObjectKeyFromObject(m), fresh); err != nil {
		t.Fatal(err)
	}
	if fresh.Spec.Size != 5 || fresh.Spec.Groups[0].Size != 1 || fresh.Spec.Groups[1].Size != 4 {
		t.Errorf("the desired size is %d, of %+v", fresh.Spec.Size, fresh.Spec.Groups)
	}
	one := d.member("single", "group-a")
	create(t, one)
	_, err := d.run(t, "grow", "single", "1", "--group=workers")
	refused(t, err, `--group is "workers"; EnsembleMember single has one group of pods`)
}

// TestWait: each thing that is waited for is said once, and the end is that the member has the size.
func TestWait(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	create(t, pool("wait-a", 8))
	m := d.member("demo", "wait-a")
	create(t, m)

	_, err := d.run(t, "scale", "demo", "--size=9", "--wait", "--timeout=100ms")
	refused(t, err, "demo does not have size 9 after 100ms, which stays asked for")

	type ending struct {
		out string
		err error
	}
	ended := make(chan ending, 1)
	go func() {
		out, err := d.run(t, "scale", "demo", "--size=10", "--wait")
		ended <- ending{out, err}
	}()
	fresh := &v1alpha1.EnsembleMember{}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if err := server.Client.Get(ctx, client.ObjectKeyFromObject(m), fresh); err != nil {
			return "", err
		}
		if fresh.Spec.Size != 10 {
			return "the desired size is not 10", nil
		}
		return "", nil
	})
	fresh.Status.Size, fresh.Status.Running, fresh.Status.Nodes, fresh.Status.Reserved = 10, 10, 10, 10
	fresh.Status.ObservedGeneration, fresh.Status.Growth = fresh.Generation, nil
	fresh.Status.Conditions = conditions("", "", "")
	if err := server.Client.Status().Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	select {
	case end := <-ended:
		if end.err != nil {
			t.Fatal(end.err)
		}
		says(t, end.out, "[####################]  nodes 10/10  pods 10/10  all pods run")
	case <-time.After(inprocess.Patience):
		t.Fatal("it waits though the member has the size")
	}

	// Somebody asks for another size meanwhile.
	go func() {
		out, err := d.run(t, "shrink", "demo", "2", "--wait")
		ended <- ending{out, err}
	}()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if err := server.Client.Get(ctx, client.ObjectKeyFromObject(m), fresh); err != nil {
			return "", err
		}
		if fresh.Spec.Size != 8 {
			return "the desired size is not 8", nil
		}
		return "", nil
	})
	fresh.Spec.Size = 5
	if err := server.Client.Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	select {
	case end := <-ended:
		refused(t, end.err, "the desired size of demo is 5 by now, not 8")
	case <-time.After(inprocess.Patience):
		t.Fatal("it waits for a size that nobody wants any more")
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	create(t, pool("pause-a", 2))
	paused := func(want bool) {
		t.Helper()
		p := &v1alpha1.NodePool{}
		if err := server.Client.Get(t.Context(), client.ObjectKey{Name: "pause-a"}, p); err != nil {
			t.Fatal(err)
		}
		if p.Spec.Paused != want {
			t.Errorf("spec.paused is %t, want %t", p.Spec.Paused, want)
		}
	}
	says(t, d.must(t, "pause", "pause-a"), "nodepool/pause-a paused")
	paused(true)
	says(t, d.must(t, "pause", "pause-a"), "nodepool/pause-a is paused already")
	says(
		t, d.must(t, "explain", "pool/pause-a"), "Pool pause-a waits for size: PoolPaused",
		"Do: Resume the pool: kubectl ensemble resume pause-a",
	)
	says(t, d.must(t, "resume", "pause-a"), "nodepool/pause-a resumed")
	paused(false)
	_, err := d.run(t, "pause", "absent")
	refused(t, err, "there is no NodePool absent")
}

func TestHelpAndCompletion(t *testing.T) {
	t.Parallel()
	d := newDesk(t, server.Config)
	create(t, pool("help-a", 2))
	create(t, d.member("demo", "help-a"))
	says(
		t, d.must(t, "--help"), "kubectl ensemble COMMAND", "Commands that change nothing:", "Commands that change what they are told:",
		"Connection flags:",
	)
	help := d.must(t, "scale", "--help")
	at := -1
	for _, part := range []string{
		"kubectl ensemble scale MEMBER --size=N", "Examples:", "\nFlags:", "--timeout duration", "\nOutput flags:",
		"\nCluster Autoscaler flags:", "\nConnection flags:",
	} {
		next := strings.Index(help, part)
		if next <= at {
			t.Errorf("%q is missing or not in its place in\n%s", part, help)
		}
		at = next
	}
	// What is completed stands before the flags of the desk, so these come first here.
	complete := func(arguments ...string) string {
		all := append([]string{"__complete", "--kubeconfig", d.kubeconfig, "--namespace", d.namespace}, arguments...)
		out, err := d.raw(t, all...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	says(t, complete("scale", ""), "demo\n", ":4")
	says(t, complete("pause", ""), "help-a\n")
	says(t, complete("explain", ""), "demo\n", "help-a\n")
	says(t, complete("status", "-o", ""), "json\n", "yaml\n", "wide\n")
}
