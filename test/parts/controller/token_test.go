package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// account makes a ServiceAccount, which may resize members of its namespace where that is granted.
func account(t *testing.T, namespace, name string, granted bool) *corev1.ServiceAccount {
	t.Helper()
	made := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := cluster.Client.Create(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if !granted {
		return made
	}
	meta := metav1.ObjectMeta{Namespace: namespace, Name: name}
	for _, o := range []client.Object{
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"ensemblemembers/scale"}, Verbs: []string{"update"}},
		}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: name}},
		},
	} {
		if err := cluster.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

// token is one of a ServiceAccount for an audience, bound to a pod unless that is nil.
func token(t *testing.T, a *corev1.ServiceAccount, audience string, bound *corev1.Pod) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	if audience != "" {
		request.Spec.Audiences = []string{audience}
	}
	if bound != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: bound.Name, UID: bound.UID}
	}
	if err := cluster.Client.SubResource("token").Create(t.Context(), a, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

// TestTokens: who is not a member shows whose ServiceAccount it is, and may do what is granted to that one, and nothing
// with a token that is not its own.
// It is not parallel: two controllers would do each other's work.
func TestTokens(t *testing.T) {
	const name, elsewhere = "by-token", "by-token-elsewhere"
	const outside, foreign, own = "198.51.100.9", "203.0.113.20", "203.0.113.21"
	ctx := t.Context()
	if err := cluster.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: elsewhere}}); err != nil {
		t.Fatal(err)
	}
	x := newScene(t, name, 1)
	p := start(t, -1)
	defer p.Stop()
	x.until(func(s *seen) string { return notAtSize(s, 1) }, nil)

	granted := account(t, corev1.NamespaceDefault, "may-resize", true)
	other := account(t, corev1.NamespaceDefault, "may-not", false)
	stranger := account(t, elsewhere, "may-resize-elsewhere", true)
	withAddress(t, "a-neighbour", foreign, corev1.PodRunning, func(*corev1.Pod) {})
	withAddress(t, "an-owner", own, corev1.PodRunning, func(p *corev1.Pod) { p.Spec.ServiceAccountName = granted.Name })
	owner := &corev1.Pod{}
	if err := cluster.Client.Get(ctx, client.ObjectKey{Namespace: corev1.NamespaceDefault, Name: "an-owner"}, owner); err != nil {
		t.Fatal(err)
	}

	secured, plain := peer.Peer{AuthInfo: credentials.TLSInfo{}}, peer.Peer{}
	ask := func(ip string, over peer.Peer, action string, headers ...string) *ensemble.Response {
		base, ok := peer.FromContext(from(ctx, ip))
		if !ok {
			t.Fatal("there is no peer")
		}
		over.Addr = base.Addr
		with := metadata.NewIncomingContext(peer.NewContext(ctx, &over), metadata.MD{"authorization": headers})
		if action == "status" {
			response, err := p.server.RequestStatus(with, &ensemble.StatusRequest{Member: "minicluster", Name: name})
			if err != nil {
				t.Fatal(err)
			}
			return response
		}
		response, err := p.server.RequestAction(with, &ensemble.ActionRequest{Member: "minicluster", Name: name, Action: action, Payload: "{}"})
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	good := "Bearer " + token(t, granted, audience, nil)
	for what, row := range map[string]struct {
		ip      string
		over    peer.Peer
		headers []string
		says    string
	}{
		"no TLS":       {outside, plain, []string{good}, "without TLS"},
		"not a bearer": {outside, secured, []string{"Basic " + good}, "has to be one "},
		"two tokens":   {outside, secured, []string{good, good}, "has to be one "},
		"a huge token": {outside, secured, []string{"Bearer " + strings.Repeat("x", 10_000)}, "at most 8192 bytes"},
		"garbage":      {outside, secured, []string{"Bearer garbage"}, "the API server does not accept the token"},
		"for the API server": {
			outside, secured, []string{"Bearer " + token(t, granted, "", nil)}, "the API server does not accept the token for the audience",
		},
		"not granted": {
			outside, secured, []string{"Bearer " + token(t, other, audience, nil)}, "may not update ensemblemembers/scale in namespace default",
		},
		"of another namespace": {
			outside, secured, []string{"Bearer " + token(t, stranger, audience, nil)},
			"MiniCluster " + elsewhere + "/" + name + " is not managed",
		},
		"stolen by a neighbour": {
			foreign, secured, []string{"Bearer " + token(t, stranger, audience, nil)}, "comes from pod default/a-neighbour of another namespace",
		},
		"bound, from outside": {
			outside, secured, []string{"Bearer " + token(t, granted, audience, owner)}, "was made for pod default/an-owner",
		},
		"bound, from another": {
			foreign, secured, []string{"Bearer " + token(t, granted, audience, owner)}, "was made for pod default/an-owner",
		},
	} {
		x.until(func(*seen) string {
			if response := ask(row.ip, row.over, "grow", row.headers...); response.GetStatus() != ensemble.Response_DENIED || !strings.Contains(
				response.GetPayload(), row.says,
			) {
				return fmt.Sprintf("%s: the answer is %s, not DENIED with %q", what, response, row.says)
			}
			return ""
		}, nil)
	}
	x.until(func(s *seen) string {
		if s.member.Spec.Size != 1 || s.member.Spec.Request != nil {
			t.Errorf("a request that was denied has changed the desired size to %d", s.member.Spec.Size)
		}
		return ""
	}, nil)
	if response := ask(
		outside, secured, "status", good,
	); response.GetStatus() != ensemble.Response_DENIED || !strings.Contains(response.GetPayload(), "may not get ensemblemembers") {
		t.Errorf("the status is told to one who may not read it: %s", response)
	}

	if response := ask(outside, secured, "grow", good); response.GetStatus() != ensemble.Response_SUCCESS {
		t.Errorf("with a token from outside: %s", response)
	}
	if response := ask(own, secured, "grow", "Bearer "+token(t, granted, audience, owner)); response.GetStatus() != ensemble.Response_SUCCESS {
		t.Errorf("with a token from the pod that it was made for: %s", response)
	}
	x.until(func(s *seen) string {
		if by := "ServiceAccount default/may-resize"; s.member.Spec.Size == 3 && s.member.Spec.Request.By != by {
			t.Errorf("the request is that of %q, not of %q", s.member.Spec.Request.By, by)
		}
		return notAtSize(s, 3)
	}, nil)
	if err := cluster.Client.DeleteAllOf(
		context.WithoutCancel(ctx), &corev1.Pod{}, client.InNamespace(corev1.NamespaceDefault),
		client.MatchingFields{"spec.schedulerName": "nobody"},
	); err != nil {
		t.Error(err)
	}
}
