package certificates

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// TestStaleRead: a replica that has not seen yet that another one has replaced the authority, or has issued the first,
// takes nothing back, issues nothing with an authority that was not stored, and looks again.
func TestStaleRead(t *testing.T) {
	t.Parallel()
	serverKey, clientKey := types.NamespacedName{
		Namespace: "system", Name: "server",
	}, types.NamespacedName{Namespace: "system", Name: "client"}
	object := func(key types.NamespacedName, data map[string][]byte) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Type: corev1.SecretTypeTLS, Data: data}
	}
	old := begin(t)
	current := begin(t)
	later := old.now.Add(lifetimes.Authority - lifetimes.Certificate/2)
	for name, stale := range map[string][]client.Object{
		"replacement": {object(serverKey, old.server), object(clientKey, old.client)},
		"first issue": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := fake.NewClientBuilder().WithObjects(object(serverKey, old.server), object(clientKey, old.client)).Build()
			var replaced corev1.Secret
			if err := live.Get(t.Context(), serverKey, &replaced); err != nil {
				t.Fatal(err)
			}
			replaced.Data = current.server
			if err := live.Update(t.Context(), &replaced); err != nil {
				t.Fatal(err)
			}
			seen := fake.NewClientBuilder().WithObjects(stale...).Build()
			recorder := events.NewFakeRecorder(10)
			i := &issuer{server: seen, client: seen, Options: Options{
				ServerSecret: serverKey, ClientSecret: clientKey, ServerNames: serverNames, ClientName: clientName, Lifetimes: lifetimes,
				Client: live, Events: recorder, Clock: clocktesting.NewFakePassiveClock(later),
			}}
			result, err := i.Reconcile(t.Context(), reconcile.Request{})
			if err != nil || result.RequeueAfter != again {
				t.Errorf("it ends with %v, %v and not with another look", result, err)
			}
			for key, want := range map[types.NamespacedName]map[string][]byte{serverKey: current.server, clientKey: old.client} {
				var after corev1.Secret
				if err := live.Get(t.Context(), key, &after); err != nil {
					t.Fatal(err)
				}
				if !cmp.Equal(after.Data, want) {
					t.Errorf("Secret %s was overwritten", key)
				}
			}
			if len(recorder.Events) > 0 {
				t.Errorf("an event says %s", <-recorder.Events)
			}
		})
	}
}

// TestInject: the webhooks of all configurations are told whom to trust, once. Those that are not there are missed by nobody.
func TestInject(t *testing.T) {
	t.Parallel()
	const name, alone = "webhooks", "more-webhooks"
	validating := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: make([]admissionregistrationv1.ValidatingWebhook, 2),
	}
	of := func(name string) client.Object {
		return &admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: make([]admissionregistrationv1.MutatingWebhook, 1),
		}
	}
	mutating := of(name)
	for there, objects := range map[string][]client.Object{
		"both": {validating, mutating}, "one of them": {mutating}, "one of another name as well": {
			validating, mutating, of(alone),
		}, "the other name alone": {of(alone)}, "none": nil,
	} {
		live := fake.NewClientBuilder().WithObjects(objects...).Build()
		i := &issuer{webhooks: []configurations{{live, name}, {live, alone}}, Options: Options{Client: live}}
		var versions []string
		for range 2 {
			if err := i.inject(t.Context(), []byte("authorities")); err != nil {
				t.Fatalf("%s: %v", there, err)
			}
			for _, object := range objects {
				read, is := object.DeepCopyObject().(client.Object)
				if !is {
					t.Fatal("no object")
				}
				if err := live.Get(t.Context(), client.ObjectKeyFromObject(object), read); err != nil {
					t.Fatal(err)
				}
				versions = append(versions, read.GetResourceVersion())
				switch read := read.(type) {
				case *admissionregistrationv1.ValidatingWebhookConfiguration:
					if string(read.Webhooks[0].ClientConfig.CABundle) != "authorities" || string(read.Webhooks[1].ClientConfig.CABundle) != "authorities" {
						t.Errorf("%s: the validating webhooks trust %v", there, read.Webhooks)
					}
				case *admissionregistrationv1.MutatingWebhookConfiguration:
					if string(read.Webhooks[0].ClientConfig.CABundle) != "authorities" {
						t.Errorf("%s: the mutating webhook trusts %v", there, read.Webhooks)
					}
				}
			}
		}
		if half := len(versions) / 2; !cmp.Equal(versions[:half], versions[half:]) {
			t.Errorf("%s: what is right was written again: %v", there, versions)
		}
	}
}
