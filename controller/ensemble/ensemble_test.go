package ensemble

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
)

// text is an ensemble.yaml without faults, that never resizes.
const text = `
jobs:
- {name: hello, command: echo hello}
rules:
- {trigger: start, action: {name: submit, label: hello}}
`

// written is a member in YAML.
func written(t *testing.T, spec, more string) string {
	t.Helper()
	indented := strings.ReplaceAll(text, "\n", "\n    ")
	return fmt.Sprintf("{minicluster: {spec: %s}, ensemble: %q%s}", spec, strings.ReplaceAll(indented, "\n    ", "\n"), more)
}

// parse is an Ensemble of members in YAML.
func parse(t *testing.T, members ...string) *v1alpha1.Ensemble {
	t.Helper()
	e := &v1alpha1.Ensemble{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "uid"}}
	if err := yaml.UnmarshalStrict([]byte("members: ["+strings.Join(members, ", ")+"]"), &e.Spec); err != nil {
		t.Fatal(err)
	}
	return e
}

const small = `{size: 2, maxSize: 4, containers: [{image: i}]}`

func TestExamine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 49)
	for name, row := range map[string]struct {
		name, spec, more string
		want             []string
	}{
		"nothing wrong":          {"demo", small, "", nil},
		"sizes that are missing": {"demo", `{containers: [{image: i}]}`, "", nil},
		"a name that is too long": {long, small, "",
			[]string{`metadata.name: Invalid value: "` + long + `": must have at most 48 characters`}},
		"a name with a dot": {"a.b", small, "", []string{`metadata.name: Invalid value: "a.b"`}},
		"no containers": {
			"demo", `{size: 1}`, "", []string{`spec.members[0].minicluster.spec.containers: Required value: the first container is the one`},
		},
		"no image": {
			"demo", `{containers: [{name: c}]}`, "", []string{`spec.members[0].minicluster.spec.containers[0].image: Required value`},
		},
		"no spec": {
			"demo", `1`, "", []string{`spec.members[0].minicluster.spec: Required value: it must be the spec of a MiniCluster`},
		},
		"a size above": {
			"demo", `{size: 5, maxSize: 4, containers: [{image: i}]}`, "",
			[]string{`spec.members[0].minicluster.spec.size: Invalid value: 5: must be at most maxSize, which is 4`},
		},
		"a minimum size above": {
			"demo", `{size: 1, minSize: 5, maxSize: 4, containers: [{image: i}]}`, "",
			[]string{`spec.members[0].minicluster.spec.minSize: Invalid value: 5: must be at most maxSize, which is 4`},
		},
		"a Service": {"demo", `{containers: [{image: i}], network: {headlessName: brokers}}`, "", nil},
		"no Service": {
			"demo", `{containers: [{image: i}], network: {headlessName: a.b}}`, "",
			[]string{`spec.members[0].minicluster.spec.network.headlessName: Invalid value: "a.b": must be the name of a Service`},
		},
		"a script": {
			"demo", `{containers: [{image: i, commands: {script: run}}]}`, "",
			[]string{`spec.members[0].minicluster.spec.containers[0].commands.script: Forbidden`},
		},
		"a batch": {
			"demo", `{containers: [{image: i, batch: true}]}`, "", []string{`spec.members[0].minicluster.spec.containers[0].batch: Forbidden`},
		},
		"a second Flux": {
			"demo", `{containers: [{image: i}, {image: j, name: j, runFlux: true}]}`, "",
			[]string{`spec.members[0].minicluster.spec.containers[1].runFlux: Forbidden`},
		},
		"no name": {
			"demo", `{containers: [{image: i}, {image: j, name: j}, {image: k}]}`, "",
			[]string{`spec.members[0].minicluster.spec.containers[2].name: Required value`},
		},
		"what has no effect": {
			"demo", `{containers: [{image: i, batch: false, runFlux: false, commands: {script: ""}}], network: {headlessName: ""}}`, "", nil,
		},
		"a size in words": {
			"demo", `{size: two, containers: [{image: i}]}`, "",
			[]string{`spec.members[0].minicluster.spec.size: Invalid value: "two": must be a whole number of at least 0`},
		},
		"a fraction": {
			"demo", `{size: 1.5, containers: [{image: i}]}`, "",
			[]string{`spec.members[0].minicluster.spec.size: Invalid value: 1.5: must be a whole number`},
		},
		"no pods on a node": {
			"demo", small, `, podsPerNode: 0`,
			[]string{`spec.members[0].podsPerNode: Invalid value: "0": must be a number from 1 to 1024, or Auto`},
		},
		"some pods on a node": {
			"demo", small, `, podsPerNode: auto`,
			[]string{`spec.members[0].podsPerNode: Invalid value: "auto": must be a number from 1 to 1024, or Auto`},
		},
		"a topology key": {"demo", small, `, topologyKey: example.com/rack`, nil},
		"no topology key": {
			"demo", small, `, topologyKey: a rack`,
			[]string{
				`spec.members[0].topologyKey: Invalid value: "a rack": must be the key of a label of nodes, such as topology.kubernetes.io/zone`,
			},
		},
		"a branch with code": {
			"demo", small, `, branch: "main; reboot"`,
			[]string{`spec.members[0].branch: Invalid value: "main; reboot": must be the name of a git branch`},
		},
		"a branch as an option": {
			"demo", small, `, branch: "-upload-pack=x"`, []string{`spec.members[0].branch: Invalid value: "-upload-pack=x"`},
		},
		"pools twice": {"demo", small, `, nodePools: [a, a]`, []string{`spec.members[0].nodePools: Invalid value`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := parse(t, written(t, row.spec, row.more))
			e.Name = row.name
			var got []string
			for _, fault := range examine(e, nil).faults {
				got = append(got, fault.Error())
			}
			if !slices.EqualFunc(got, row.want, strings.HasPrefix) {
				t.Errorf("got  %q\nwant %q", got, row.want)
			}
		})
	}
}

// TestDigitFirst: a name that newer API servers take for a Service, and older ones do not, is told.
func TestDigitFirst(t *testing.T) {
	t.Parallel()
	e := parse(t, written(t, small, ""))
	e.Name = "2d-run"
	want := []string{
		`metadata.name: "2d-run" does not begin with a letter: before Kubernetes 1.36 the Services of its members cannot have such names, and ` +
			`no pods come`,
	}
	f := examine(e, nil)
	if diff := cmp.Diff(want, f.warnings); diff != "" || len(f.faults) > 0 {
		t.Errorf("%v %s", f.faults, diff)
	}
}

// TestServices: each member has a headless Service of its own, as the Flux Operator makes one for the pods of the first
// MiniCluster that names it.
func TestServices(t *testing.T) {
	t.Parallel()
	of := func(name string) string {
		return fmt.Sprintf(`{containers: [{image: i}], network: {headlessName: %q}}`, name)
	}
	for name, row := range map[string]struct {
		specs, names []string
		want         string
	}{
		"none is named":       {[]string{small, small}, []string{"demo-0", "demo-1"}, ""},
		"one is named":        {[]string{small, of("brokers")}, []string{"demo-0", "brokers"}, ""},
		"names are exchanged": {[]string{of("demo-1"), of("demo-0")}, []string{"demo-1", "demo-0"}, ""},
		"both have one name": {
			[]string{of("brokers"), small, of("brokers")}, nil,
			`spec.members[2].minicluster.spec.network.headlessName: Invalid value: "brokers": must be another one than that of spec.members[0]`,
		},
		"that of the next member": {
			[]string{of("demo-1"), small}, nil,
			`spec.members[0].minicluster.spec.network.headlessName: Invalid value: "demo-1": must be another one than that of spec.members[1]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var members []string
			for _, spec := range row.specs {
				members = append(members, written(t, spec, ""))
			}
			e := parse(t, members...)
			if faults := examine(e, nil).faults; row.want != "" || len(faults) > 0 {
				if len(faults) != 1 || row.want == "" || !strings.HasPrefix(faults[0].Error(), row.want) {
					t.Errorf("got  %v\nwant %q", faults, row.want)
				}
				return
			}
			for i, want := range row.names {
				built, err := build(e, i, &Settings{Endpoint: "h:1"})
				if err != nil {
					t.Fatal(err)
				}
				if got, _, _ := unstructured.NestedString(built.cluster.Object, "spec", "network", "headlessName"); got != want {
					t.Errorf("the Service of member %d is %q, not %q", i, got, want)
				}
			}
		})
	}
}

// TestExamineText: what is wrong with the text of an ensemble.yaml has the path of the text in the Ensemble.
func TestExamineText(t *testing.T) {
	t.Parallel()
	e := parse(t, written(t, small, ""), written(t, small, ""))
	e.Spec.Members[1].Ensemble = strings.Replace(text, "label: hello", "label: helo", 1)
	faults := examine(e, nil).faults
	if len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), "spec.members[1].ensemble.rules[0].action.label: ") {
		t.Errorf("got %v", faults)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	grows := text + "logging: {heartbeat: 3}\n"
	grows = strings.Replace(
		grows, "rules:\n", "rules:\n- {trigger: metric, name: mean.hello-pending, when: \"> 5\", action: {name: grow}}\n", 1,
	)
	e := parse(
		t, written(t, small, ""), written(t, `{size: 2, containers: [{image: i, command: run}]}`, ", nodePools: [a]"), written(t, small, ""),
	)
	e.Spec.Members[0].Ensemble, e.Spec.Members[1].Ensemble = grows, grows
	e.Spec.Members[2].Ensemble = strings.Replace(text, "echo hello", "echo hello, nodes: 9", 1)
	e.Spec.Sidecar = &v1alpha1.Sidecar{Image: "i", Port: "50051"}
	f := examine(e, nil)
	want := []string{
		"spec.members[0]: rules grow or shrink, and without nodePools every such request is denied",
		"spec.members[1]: rules grow, and the size is maxSize already (2)",
		`spec.members[2]: job "hello" needs 9 nodes, and maxSize is 4: it can never run`,
	}
	if diff := cmp.Diff(want, f.warnings); diff != "" || len(f.faults) > 0 {
		t.Errorf("%v %s", f.faults, diff)
	}
	unused := []string{
		"spec.members[1].minicluster.spec.containers[0].command", "spec.sidecar.image", "spec.sidecar.port",
	}
	if diff := cmp.Diff(unused, f.unused); diff != "" {
		t.Error(diff)
	}
	if f := examine(e, []string{"default"}); slices.Contains(f.warnings, want[0]) {
		t.Error("warned of missing nodePools though there are some for all")
	}
}

func TestValidateUpdate(t *testing.T) {
	t.Parallel()
	before := parse(t, written(t, small, ""), written(t, small, ""))
	for name, row := range map[string]struct {
		after *v1alpha1.Ensemble
		want  []string
	}{
		"nothing": {before, nil},
		"what can": {
			parse(
				t, written(t, `{size: 2, minSize: 1, maxSize: 4, containers: [{image: i}]}`, ", nodePools: [b], requestPolicy: Coalesce"),
				written(t, small, ""),
			),
			nil,
		},
		"one more": {parse(t, written(t, small, ""), written(t, small, ""), written(t, small, "")), nil},
		"one less": {parse(t, written(t, small, "")), nil},
		"the size": {
			parse(t, written(t, `{size: 3, maxSize: 4, containers: [{image: i}]}`, ""), written(t, small, "")),
			[]string{`spec.members[0].minicluster.spec.size: Forbidden: it is the size that the member begins with; kubectl scale ensemblemember`},
		},
		"the greatest": {
			parse(t, written(t, small, ""), written(t, `{size: 2, maxSize: 5, containers: [{image: i}]}`, "")),
			[]string{`spec.members[1].minicluster.spec.maxSize: Forbidden: the Flux Operator fixes it`},
		},
		"the rest": {
			parse(t, written(t, `{size: 2, maxSize: 4, containers: [{image: j}], interactive: true}`, ", branch: main"), written(t, small, "")),
			[]string{
				"spec.members[0].branch: Forbidden", "spec.members[0].minicluster.spec.containers: Forbidden",
				"spec.members[0].minicluster.spec.interactive: Forbidden",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, fault := range ValidateUpdate(before, row.after) {
				got = append(got, fault.Error())
			}
			if !slices.EqualFunc(got, row.want, strings.HasPrefix) {
				t.Errorf("got  %q\nwant %q", got, row.want)
			}
		})
	}
}

// TestBuild: what a member is made of, as a user sees it, is that of the file in testdata.
func TestBuild(t *testing.T) {
	t.Parallel()
	e := parse(t, written(t, small, ""), written(t,
		`{minSize: 1, size: 2, maxSize: 4, flux: {completeWorkers: true}, containers: [{image: i, workingDir: /work, commands: {pre: "echo mine", post: "echo end"}, volumes: {data: {claimName: data, path: /data}}}, {image: beside, name: beside}]}`,
		`, branch: a/b, nodePools: [hpc-a, hpc-b], growthPolicy: AllOrNothing, requestPolicy: Coalesce, podsPerNode: Auto, giveUpAfter: 3, `+
			`topologyKey: topology.kubernetes.io/zone`))
	built, err := build(e, 1, &Settings{Endpoint: "ensemble-autoscaler.system.svc:50051", DefaultNodePools: []string{"default"}})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, object := range []any{built.configMap, built.cluster.Object} {
		out, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString("---\n" + string(out))
	}
	path := filepath.Join("testdata", "member.yaml")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s is not what is built (UPDATE=1 go test writes it):\n%s", path, diff)
	}
	if again, err := build(
		e, 1, &Settings{Endpoint: "ensemble-autoscaler.system.svc:50051"},
	); err != nil || !cmp.Equal(again.cluster.Object, built.cluster.Object) {
		t.Error("built again it is another one")
	}
	later := parse(t, written(t, strings.Replace(small, "size: 2", "size: 2, minSize: 3", 1), ""))
	second, err := build(later, 0, &Settings{Endpoint: "h:1"})
	if err != nil {
		t.Fatal(err)
	}
	if size, _, _ := unstructured.NestedInt64(second.cluster.Object, "spec", "size"); size != 3 {
		t.Errorf("a member whose minSize was raised above its size is recreated with size %d, not 3", size)
	}
	first, err := build(e, 0, &Settings{Endpoint: "h:1", DefaultNodePools: []string{"default"}})
	if err != nil {
		t.Fatal(err)
	}
	if pools := first.cluster.GetAnnotations()["autoscaling.flux-framework.org/node-pools"]; pools != "default" {
		t.Errorf("a member that names no pools gets %q", pools)
	}
}

// TestExamples: nothing is wrong with the examples that users are given, and nothing in them is without effect.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ensemble-hello-world.yaml", "ensemble-grow-shrink.yaml"} {
		content, err := os.ReadFile(filepath.Join("..", "..", "examples", name))
		if err != nil {
			t.Fatal(err)
		}
		e := &v1alpha1.Ensemble{}
		if err := yaml.UnmarshalStrict(content, e); err != nil {
			t.Fatal(err)
		}
		if f := examine(e, nil); len(f.faults)+len(f.warnings)+len(f.unused) > 0 {
			t.Errorf("%s: %v, warnings %q, unused %q", name, f.faults, f.warnings, f.unused)
		}
	}
}
