package e2e

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// TestCertificatesAreRepaired: a user empties the Secret with Cluster Autoscaler's certificate, and later deletes it; the
// provider issues another one, and Cluster Autoscaler, which runs with the first one, goes on.
func TestCertificatesAreRepaired(t *testing.T) {
	t.Parallel()
	key := client.ObjectKey{Namespace: system.Namespace, Name: system.ClientSecret}
	read := func(ctx context.Context) (*corev1.Secret, error) {
		var secret corev1.Secret
		if err := shared.Client.Get(ctx, key, &secret); err != nil {
			return nil, err
		}
		return &secret, nil
	}
	first, err := read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := string(first.Data[corev1.TLSCertKey])
	for _, damage := range []func(*corev1.Secret) error{
		func(s *corev1.Secret) error {
			whole := s.DeepCopy()
			s.Data[corev1.TLSPrivateKeyKey] = []byte{}
			return shared.Client.Patch(t.Context(), s, client.MergeFrom(whole))
		},
		func(s *corev1.Secret) error { return shared.Client.Delete(t.Context(), s) },
	} {
		secret, err := read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := damage(secret); err != nil {
			t.Fatal(err)
		}
		if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
			if secret, err = read(ctx); err != nil {
				return false, client.IgnoreNotFound(err)
			}
			return string(secret.Data[corev1.TLSCertKey]) != before && len(secret.Data[corev1.TLSPrivateKeyKey]) > 0, nil
		}); err != nil {
			t.Fatalf("no other certificate was issued: %v", err)
		}
		before = string(secret.Data[corev1.TLSCertKey])
		shared.serving.RLock()
		err = shared.AsAutoscaler(t.Context(), func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
			_, err := c.Refresh(ctx, &externalgrpc.RefreshRequest{})
			return err
		})
		shared.serving.RUnlock()
		if err != nil {
			t.Errorf("with the certificate that Cluster Autoscaler has: %v", err)
		}
	}
}
