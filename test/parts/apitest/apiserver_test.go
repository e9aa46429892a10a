package apitest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/fluxoperator/crd"
)

// server is the API server of all tests here, with the definitions of this project and that of the
// MiniCluster. TestMain sets it once, before any test runs.
var server struct {
	config *rest.Config
	client client.Client
	plane  *controlplane.ControlPlane
	// kubectl is the path of one.
	kubectl string
}

func TestMain(m *testing.M) {
	code, err := withAPIServer(m.Run)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "apitest:", err)
		code = 1
	}
	os.Exit(code)
}

func withAPIServer(run func() int) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	// The zero value of Options is etcd and the API server.
	plane, err := controlplane.Start(ctx, controlplane.Options{Progress: os.Stderr})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()

	server.plane, server.config = plane, plane.AdminConfig()
	if server.kubectl, err = plane.Kubectl(ctx, os.Stderr); err != nil {
		return 1, err
	}
	server.config.QPS = -1
	transport, err := rest.HTTPClientFor(server.config)
	if err != nil {
		return 1, err
	}
	defer transport.CloseIdleConnections()
	miniClusters := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(crd.MiniClusters, miniClusters); err != nil {
		return 1, fmt.Errorf("parsing the definition of the MiniCluster: %w", err)
	}
	_, err = envtest.InstallCRDs(server.config, envtest.CRDInstallOptions{
		MaxTime:            time.Minute,
		Paths:              []string{"../../../manifests/crd"},
		CRDs:               []*apiextensionsv1.CustomResourceDefinition{miniClusters},
		ErrorIfPathMissing: true,
	})
	if err != nil {
		return 1, fmt.Errorf("installing the definitions: %w", err)
	}
	server.client, err = client.New(server.config, client.Options{HTTPClient: transport})
	if err != nil {
		return 1, err
	}
	return run(), nil
}

// parse reads one object.
func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(text), &object.Object); err != nil {
		t.Fatalf("parsing %s: %v", text, err)
	}
	return object
}

// edit changes an object by a merge patch in YAML; null removes a field.
func edit(t *testing.T, object *unstructured.Unstructured, patch string) *unstructured.Unstructured {
	t.Helper()
	var change map[string]any
	if err := yaml.UnmarshalStrict([]byte(patch), &change); err != nil {
		t.Fatalf("parsing the change %s: %v", patch, err)
	}
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
		case isMap && wasMap && len(inner) > 0:
			merge(existing, inner)
		default:
			into[key] = value
		}
	}
}

// row is a change to a valid object and what the API server says to the outcome. Each of refused is a
// part of its message; none means that the object is accepted.
type row struct {
	change  string
	refused []string
}

// check creates the object of each row, as a trial that leaves nothing behind.
func check(t *testing.T, valid string, rows map[string]row) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			object := edit(t, parse(t, valid), row.change)
			err := server.client.Create(t.Context(), object, client.DryRunAll, client.FieldValidation("Strict"))
			judge(t, err, row.refused)
		})
	}
}

func judge(t *testing.T, err error, refused []string) {
	t.Helper()
	if len(refused) == 0 {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if err == nil {
		t.Errorf("accepted, want it refused with %q", refused)
		return
	}
	if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) && !apierrors.IsForbidden(err) {
		t.Errorf("failed otherwise than by validation or a policy: %v", err)
	}
	for _, part := range refused {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("message does not have %q:\n%v", part, err)
		}
	}
}

// as is a client of a user, in groups, who may do everything, so that policies alone refuse him anything.
func as(t *testing.T, user string, groups ...string) client.Client {
	t.Helper()
	config := rest.CopyConfig(server.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:masters")}
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(config, client.Options{HTTPClient: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// create creates an object for the time of the test.
func create(t *testing.T, object *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	if err := server.client.Create(t.Context(), object); err != nil {
		t.Fatalf("creating %s %s: %v", object.GetKind(), object.GetName(), err)
	}
	t.Cleanup(func() {
		// The context of the test has ended by now.
		if err := server.client.Delete(context.Background(), object); client.IgnoreNotFound(err) != nil {
			t.Errorf("deleting %s %s: %v", object.GetKind(), object.GetName(), err)
		}
	})
	return object
}

// field reads a field of an object by its path; a missing one is nil.
func field(t *testing.T, object *unstructured.Unstructured, path string) any {
	t.Helper()
	value, _, err := unstructured.NestedFieldNoCopy(object.Object, strings.Split(path, ".")...)
	if err != nil {
		t.Fatalf("reading %s: %v", path, err)
	}
	return value
}
