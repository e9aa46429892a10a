package apitest

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestWhichSecretsTheProviderMayCreate: its own two, and none that would give it the token of another ServiceAccount;
// nobody else is held to that.
func TestWhichSecretsTheProviderMayCreate(t *testing.T) {
	applyManifest(t, "namespace", "namespace.yaml")
	applyManifest(t, "certificates", "admission.yaml")
	provider := as(t, "system:serviceaccount:ensemble-autoscaler-system:provider")
	const certificate = `, namespace: ensemble-autoscaler-system}, type: kubernetes.io/tls, data: {tls.crt: "", tls.key: ""}}`
	secret := func(text string) *unstructured.Unstructured {
		return parse(t, `{apiVersion: v1, kind: Secret, metadata: {`+text)
	}
	refused := []string{"the provider creates no Secrets but its own two for certificates"}
	// The API server learns of policies by watching.
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
		return apierrors.IsForbidden(provider.Create(ctx, secret(`name: another`+certificate), client.DryRunAll)), nil
	}); err != nil {
		t.Fatalf("the policy is not enforced: %v", err)
	}
	for name, row := range map[string]struct {
		by      client.Client
		secret  *unstructured.Unstructured
		refused []string
	}{
		"the server's":           {provider, secret(`name: ensemble-autoscaler-provider-tls` + certificate), nil},
		"Cluster Autoscaler's":   {provider, secret(`name: cluster-autoscaler-provider-tls` + certificate), nil},
		"another name":           {provider, secret(`name: another` + certificate), refused},
		"a name that is made up": {provider, secret(`generateName: cluster-autoscaler-provider-tls` + certificate), refused},
		"another type": {
			provider, secret(`name: cluster-autoscaler-provider-tls, namespace: ensemble-autoscaler-system}, type: Opaque}`), refused,
		},
		"a token of another": {
			provider,
			secret(
				`name: cluster-autoscaler-provider-tls, namespace: ensemble-autoscaler-system, annotations: {kubernetes.io/service-account.name: default}}, type: kubernetes.io/service-account-token}`,
			),
			refused,
		},
		"by another ServiceAccount": {as(t, "system:serviceaccount:default:provider"), secret(`name: another` + certificate), nil},
	} {
		t.Run(name, func(t *testing.T) { judge(t, row.by.Create(t.Context(), row.secret, client.DryRunAll), row.refused) })
	}
}
