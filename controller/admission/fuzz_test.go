package admission

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// FuzzReviews: whatever is sent to the webhooks, by an API server or by anybody who reaches the port, is answered, and none panics.
func FuzzReviews(f *testing.F) {
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme), appsv1.AddToScheme(scheme)); err != nil {
		f.Fatal(err)
	}
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		f.Fatal(err)
	}
	reader := fake.NewClientBuilder().WithScheme(scheme).Build()
	hooks := Webhooks(scheme, &Lookup{Cached: reader, Live: reader}, metrics)
	paths := slices.Sorted(maps.Keys(hooks))

	const minicluster = `{"apiVersion":"flux-framework.org/v1alpha2","kind":"MiniCluster","metadata":{"name":"m","namespace":"ns","annotations":{` +
		`"autoscaling.flux-framework.org/node-pools":"a","kubectl.kubernetes.io/last-applied-configuration":"{}"},` +
		`"managedFields":[{"manager":"kubectl","operation":"Apply","fieldsV1":{"f:spec":{"f:size":{}}}}]},"spec":{"size":2,"maxSize":4,"containers":[{"image":"i"}]}}`
	const pool = `{"apiVersion":"autoscaling.flux-framework.org/v1alpha1","kind":"NodePool","metadata":{"name":"a"},"spec":{"maxSize":3,"template":{"capacity":{"cpu":"1e9"}}}}`
	for i := range paths {
		for _, object := range []string{minicluster, pool, `{"kind":"Pod","apiVersion":"v1","metadata":{"labels":{"autoscaling.flux-framework.org/member":"m"}}}`, `{}`, `null`} {
			f.Add(uint8(i), "UPDATE", object, object, `{"fieldManager":"kubectl"}`, false)
			f.Add(uint8(i), "CREATE", object, `null`, ``, false)
		}
	}
	f.Add(uint8(0), "", `{"kind":"AdmissionReview","request":{"uid":"u","object":{}}}`, "", "", true)
	f.Fuzz(func(t *testing.T, path uint8, operation, object, before, options string, whole bool) {
		body := []byte(object)
		if !whole {
			review := admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{
				UID: "u", Name: "m", Namespace: "ns", Operation: admissionv1.Operation(operation),
				Object: runtime.RawExtension{Raw: []byte(object)}, OldObject: runtime.RawExtension{Raw: []byte(before)}, Options: runtime.RawExtension{Raw: []byte(options)},
			}}
			review.APIVersion, review.Kind = admissionv1.SchemeGroupVersion.String(), "AdmissionReview"
			var err error
			if body, err = json.Marshal(review); err != nil {
				return
			}
		}
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		hooks[paths[int(path)%len(paths)]].ServeHTTP(answer, request)
		if answer.Body.Len() == 0 || strings.Contains(answer.Body.String(), "panic: ") {
			t.Errorf("%s is answered %d: %s", body, answer.Code, answer.Body)
		}
	})
}
