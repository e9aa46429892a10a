package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	ensemblev1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// strict refuses a field that the definition does not know, which is dropped otherwise.
const strict = client.FieldValidation("Strict")

// former is the kind that PoolMachine has taken the place of: who has objects of it is not upgraded (former_test.go).
const former = "KwokMachine"

// edits are what is usually changed in objects of a kind, in spec and in status, as merge patches.
var edits = map[string]struct{ spec, status string }{
	"NodePool": {`{"spec":{"maxSize":20,"paused":false}}`, `{"status":{"floor":2,"reserved":2,"replicas":3,"ready":3}}`},
	"EnsembleMember": {
		`{"spec":{"size":2,"growthPolicy":"AllOrNothing"}}`,
		`{"status":{"size":2,"reserved":2,"nodes":2,"growth":null,"reservations":[{"nodePool":"hpc-a","nodes":2}]}}`,
	},
	"Ensemble": {`{"spec":{"sidecar":null}}`, `{"status":{"size":3,"wants":3,"nodes":3,"membersReady":"2/2"}}`},
}

// golden is an object of an older release.
type golden struct {
	*unstructured.Unstructured
	// before and now are what the definitions said then, and say now.
	before, now *schema
}

// TestUpgrade: objects that were written under the definitions of a release stay as they are when the definitions are
// replaced by those of manifests/crd, and can be read and written by programs of both.
func TestUpgrade(t *testing.T) {
	releases, err := filepath.Glob(filepath.Join("testdata", "*"))
	if err != nil || len(releases) == 0 {
		t.Fatalf("there is no release in testdata: %v", err)
	}
	for _, release := range releases {
		t.Run(filepath.Base(release), func(t *testing.T) { upgrade(t, release) })
	}
}

func upgrade(t *testing.T, release string) {
	t.Helper()
	plane := controlplanetest.Start(t, controlplane.Options{})
	c, transport := connect(t, plane.AdminConfig())

	before, now := definitions(t, filepath.Join(release, "crd")), definitions(t, filepath.Join("..", "..", "..", "manifests", "crd"))
	install(t, c, transport, plane.URL(), before)
	objects := slices.DeleteFunc(
		read(t, filepath.Join(release, "objects"), before, now), func(g *golden) bool { return g.GetKind() == former },
	)
	for _, object := range objects {
		status := object.Object["status"]
		if err := c.Create(t.Context(), object.Unstructured, strict); err != nil {
			t.Fatalf("under the old definitions, create %s: %v", name(object.Unstructured), err)
		}
		if status != nil {
			object.Object["status"] = status
			if err := c.Status().Update(t.Context(), object.Unstructured, strict); err != nil {
				t.Fatalf("under the old definitions, write the status of %s: %v", name(object.Unstructured), err)
			}
		}
	}

	install(t, c, transport, plane.URL(), now)
	for _, object := range objects {
		t.Run(strings.ReplaceAll(name(object.Unstructured), " ", "/"), func(t *testing.T) { object.check(t, c) })
	}
}

// check makes of an object what programs of the old and the new release do.
func (g *golden) check(t *testing.T, c client.Client) {
	t.Helper()
	is := g.read(t, c)
	if is.GetResourceVersion() != g.GetResourceVersion() {
		t.Errorf("it was written: its version was %s and is %s", g.GetResourceVersion(), is.GetResourceVersion())
	}
	for _, difference := range differences(g.content(g.Object), g.content(is.Object), g.before, g.now, "") {
		t.Errorf("after the upgrade %s", difference)
	}

	t.Run("the new release writes what it has read", func(t *testing.T) {
		typed := g.typed(t)
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(is), typed); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Update(t.Context(), typed, strict), c.Status().Update(t.Context(), typed, strict)); err != nil {
			t.Fatal(err)
		}
		// One value may be written in several ways, as durations are, so values are compared.
		was, is := g.typed(t), g.typed(t)
		for into, from := range map[client.Object]*unstructured.Unstructured{was: g.Unstructured, is: g.pruned(g.read(t, c), g.before)} {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(g.content(from.Object), into); err != nil {
				t.Fatal(err)
			}
		}
		if !equality.Semantic.DeepEqual(was, is) {
			t.Errorf("it was\n%s\nand is\n%s", encoded(t, was), encoded(t, is))
		}
	})
	t.Run("the new release edits it", func(t *testing.T) { g.edit(t, c, g.now) })
	t.Run("the old release edits it", func(t *testing.T) { g.edit(t, c, g.before) })
	for _, added := range additions(g.before, g.now, g.content(is.Object), "") {
		if added.path == ".spec.machines.karpenter" || added.path == ".spec.machines.clusterAPI" {
			// Exactly one backend is set. One that the old release does not know takes the place of the one that it does: its whole
			// write of such a pool leaves none, and is refused.
			continue
		}
		t.Run("the old release edits it when it has "+added.path, func(t *testing.T) { g.editWith(t, c, added) })
	}
}

// edit edits the object as a program does that knows a schema and nothing besides, and puts it back. Each write is a whole
// object.
func (g *golden) edit(t *testing.T, c client.Client, knows *schema) {
	t.Helper()
	for round, patches := range []struct{ spec, status string }{
		edits[g.GetKind()],
		// Back again.
		{string(encoded(t, map[string]any{"spec": g.Object["spec"]})), string(encoded(t, map[string]any{"status": g.Object["status"]}))},
	} {
		edited := g.patched(t, g.pruned(g.read(t, c), knows), patches.spec)
		if err := c.Update(t.Context(), edited); err != nil {
			t.Errorf("write %d of the spec: %v", round+1, err)
		}
		edited = g.patched(t, g.pruned(g.read(t, c), knows), patches.status)
		if edited.Object["status"] == nil {
			continue
		}
		if err := c.Status().Update(t.Context(), edited); err != nil {
			t.Errorf("write %d of the status: %v", round+1, err)
		}
	}
	// What it has left is as good as any other.
	is := g.read(t, c)
	if err := c.Update(t.Context(), is, strict); err != nil {
		t.Errorf("write it again: %v", err)
	}
}

// editWith is edit by the old release, which does not know a field that the new one has set.
func (g *golden) editWith(t *testing.T, c client.Client, added addition) {
	t.Helper()
	is := g.read(t, c)
	for _, here := range additions(g.before, g.now, g.content(is.Object), "") {
		switch {
		case here.path != added.path:
		case added.path == ".spec.groups":
			here.set(severalGroups(t, is))
		default:
			here.set(sample(here.field))
		}
	}
	write := func(object *unstructured.Unstructured, options ...client.UpdateOption) error {
		return c.Update(t.Context(), object, options...)
	}
	if strings.HasPrefix(added.path, ".status") {
		write = func(object *unstructured.Unstructured, _ ...client.UpdateOption) error {
			return c.Status().Update(t.Context(), object)
		}
	}
	if err := write(is); err != nil {
		t.Fatalf("sample has to make a value that may be there: %v", err)
	}
	g.edit(t, c, g.before)
}

// severalGroups are two groups of pods of an EnsembleMember, whose sizes are the sums of theirs: at least two.
func severalGroups(t *testing.T, member *unstructured.Unstructured) []any {
	t.Helper()
	first, second := map[string]any{"name": "a"}, map[string]any{"name": "b"}
	for _, field := range []string{"size", "minSize", "maxSize"} {
		sum, _, err := unstructured.NestedInt64(member.Object, "spec", field)
		if err != nil {
			t.Fatal(err)
		}
		sum = max(sum, 2)
		first[field], second[field] = int64(1), sum-1
		if err := unstructured.SetNestedField(member.Object, sum, "spec", field); err != nil {
			t.Fatal(err)
		}
	}
	return []any{first, second}
}

// content is what is the object's own, and not about it.
func (g *golden) content(object map[string]any) map[string]any {
	content := map[string]any{}
	for _, part := range []string{"spec", "status"} {
		if value, has := object[part]; has {
			content[part] = value
		}
	}
	return content
}

func (g *golden) pruned(object *unstructured.Unstructured, knows *schema) *unstructured.Unstructured {
	kept := object.DeepCopy()
	for part, value := range g.content(kept.Object) {
		kept.Object[part] = prune(property(knows, part), value)
	}
	return kept
}

// patched merges a patch into the object.
func (g *golden) patched(t *testing.T, object *unstructured.Unstructured, patch string) *unstructured.Unstructured {
	t.Helper()
	change, _ := decoded([]byte(patch)).(map[string]any)
	result := object.DeepCopy()
	merge(result.Object, change)
	return result
}

func merge(into, change map[string]any) {
	for key, value := range change {
		inner, isMap := value.(map[string]any)
		existing, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			merge(existing, inner)
		default:
			into[key] = value
		}
	}
}

func (g *golden) read(t *testing.T, c client.Client) *unstructured.Unstructured {
	t.Helper()
	is := &unstructured.Unstructured{}
	is.SetGroupVersionKind(g.GroupVersionKind())
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(g), is); err != nil {
		t.Fatal(err)
	}
	return is
}

// typed is an empty object of the kind, as our programs have it.
func (g *golden) typed(t *testing.T) client.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), ensemblev1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	empty, err := scheme.New(g.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	object, is := empty.(client.Object)
	if !is {
		t.Fatalf("%T is no object", empty)
	}
	return object
}

func connect(t *testing.T, config *rest.Config) (client.Client, *http.Client) {
	t.Helper()
	config.QPS = -1
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	scheme := runtime.NewScheme()
	if err := errors.Join(
		clientgoscheme.AddToScheme(scheme), apiextensionsv1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme),
		ensemblev1alpha1.AddToScheme(scheme),
	); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme, HTTPClient: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c, transport
}

// definitions reads those of a directory, by their kinds.
func definitions(t *testing.T, directory string) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(directory, "*_*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there is no definition in %s: %v", directory, err)
	}
	found := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		definition := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(text, definition); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(definition.Spec.Versions) != 1 {
			t.Fatalf("%s has %d versions: this test is for one, and others need a conversion", file, len(definition.Spec.Versions))
		}
		found[definition.Spec.Names.Kind] = definition
	}
	return found
}

// read reads the objects of a release, and checks that all its fields are among them.
func read(t *testing.T, directory string, before, now map[string]*apiextensionsv1.CustomResourceDefinition) []*golden {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var found []*golden
	whole := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := system.Objects(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, object := range objects {
			kind := object.GetKind()
			if before[kind] == nil || now[kind] == nil && kind != former {
				t.Fatalf("%s: there is no definition of the kind %s", file, kind)
			}
			g := &golden{Unstructured: object, before: schemaOf(before[kind])}
			if now[kind] != nil {
				g.now = schemaOf(now[kind])
			}
			found = append(found, g)
			if strings.HasPrefix(object.GetName(), "whole") {
				whole[kind] = true
				for _, part := range []string{"spec", "status"} {
					for _, missing := range unset(property(g.before, part), object.Object[part], part) {
						t.Errorf("%s: %s does not have %s", file, name(object), missing)
					}
				}
			}
		}
	}
	for kind := range before {
		if !whole[kind] {
			t.Errorf("%s has no %s with every field", directory, kind)
		}
	}
	return found
}

func schemaOf(definition *apiextensionsv1.CustomResourceDefinition) *schema {
	return definition.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// install creates or replaces the definitions, as kubectl apply does, and waits until the API server goes by them: each gets
// a column of a name of its own, which it then shows.
func install(
	t *testing.T, c client.Client, transport *http.Client, url string, definitions map[string]*apiextensionsv1.CustomResourceDefinition,
) {
	t.Helper()
	mark := fmt.Sprintf("INSTALLED-%d", time.Now().UnixNano())
	for kind, definition := range definitions {
		definition = definition.DeepCopy()
		version := &definition.Spec.Versions[0]
		version.AdditionalPrinterColumns = append(version.AdditionalPrinterColumns, apiextensionsv1.CustomResourceColumnDefinition{
			Name: mark, Type: "string", JSONPath: ".metadata.name",
		})
		var there apiextensionsv1.CustomResourceDefinition
		err := c.Get(t.Context(), client.ObjectKeyFromObject(definition), &there)
		switch {
		case apierrors.IsNotFound(err):
			err = c.Create(t.Context(), definition)
		case err == nil:
			definition.ResourceVersion = there.ResourceVersion
			err = c.Update(t.Context(), definition)
		}
		if err != nil {
			t.Fatalf("install the definition of %s: %v", kind, err)
		}
		path := fmt.Sprintf("%s/apis/%s/%s/%s", url, definition.Spec.Group, version.Name, definition.Spec.Names.Plural)
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			columns, err := columns(ctx, transport, path)
			if err != nil || !strings.Contains(columns, mark) {
				return fmt.Sprintf("%s has the columns %s (%v)", kind, columns, err), nil
			}
			return "", nil
		})
	}
}

// columns are those that kubectl get prints.
func columns(ctx context.Context, transport *http.Client, url string) (names string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := transport.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	var table metav1.Table
	if err := json.NewDecoder(response.Body).Decode(&table); err != nil {
		return "", err
	}
	for _, column := range table.ColumnDefinitions {
		names += column.Name + " "
	}
	return names, nil
}

func name(object *unstructured.Unstructured) string { return object.GetKind() + " " + object.GetName() }

func encoded(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// decoded reads JSON as unstructured objects have it: whole numbers are int64.
func decoded(text []byte) any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil
	}
	return numbers(value)
}

func numbers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name := range value {
			value[name] = numbers(value[name])
		}
	case []any:
		for i := range value {
			value[i] = numbers(value[i])
		}
	case json.Number:
		if whole, err := value.Int64(); err == nil {
			return whole
		}
		number, _ := value.Float64()
		return number
	}
	return value
}
