package endpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

const (
	bearer = "Bearer "
	// maxTokenBytes bounds what is sent to the API server to be reviewed. Real tokens have about 1 KiB.
	maxTokenBytes = 8 << 10
	// userPrefix is that of the user name of a ServiceAccount: system:serviceaccount:NAMESPACE:NAME.
	userPrefix = "system:serviceaccount:"
	// extraPodName and extraPodUID tell to which pod a token is bound
	// (kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin).
	extraPodName = "authentication.kubernetes.io/pod-name"
	extraPodUID  = "authentication.kubernetes.io/pod-uid"
)

// identifyByToken is for callers that are not members: the API server says whose ServiceAccount the token is, and
// whether that one may do this to the member of that name in its own namespace. A token that was stolen is of little
// use: it is taken over TLS only, has to be for our audience, from no pod of another namespace, and where it is bound to
// a pod, from that pod alone.
func (s *Server) identifyByToken(
	ctx context.Context, from *peer.Peer, host string, given []string, kind member.Kind, name string, to intent,
) (*caller, error) {
	token, isBearer := strings.CutPrefix(given[0], bearer)
	switch _, secured := from.AuthInfo.(credentials.TLSInfo); {
	case !secured && !s.trustUnknown:
		return nil, deny(
			"a token was sent without TLS, where others can read and use it: connect with TLS, to the same port, and have a new token made",
		)
	case len(given) > 1 || !isBearer || token == "" || len(token) > maxTokenBytes:
		return nil, deny(
			`the metadata "authorization" has to be one "Bearer TOKEN" with the token of a ServiceAccount of at most %d bytes`, maxTokenBytes,
		)
	}
	source := budget.Source(host)
	if err := s.attempts.left(source); err != nil {
		return nil, err
	}
	// Its ServiceAccount is known when the API server has been asked; the address is where it comes from. The budget is one of its own: who
	// has a token, and pods enough, is not to use up what members are known by.
	if err := s.take(s.reviews, source); err != nil {
		return nil, err
	}
	known, err := s.identifyByReview(ctx, host, token, kind, name, to)
	if _, refused := errors.AsType[*denied](err); refused {
		s.attempts.failed(source)
	}
	return known, err
}

// identifyByReview asks the API server about a token and what it is for.
func (s *Server) identifyByReview(
	ctx context.Context, host, token string, kind member.Kind, name string, to intent,
) (*caller, error) {
	user, err := s.review(ctx, token)
	if err != nil {
		return nil, err
	}
	namespace, account, isAccount := strings.Cut(strings.TrimPrefix(user.Username, userPrefix), ":")
	if !isAccount || !strings.HasPrefix(user.Username, userPrefix) {
		return nil, deny("the token is that of user %q; only ServiceAccounts have a namespace in which a name can be looked up", user.Username)
	}
	if err := s.checkPlace(host, namespace, account, user); err != nil {
		return nil, err
	}
	known := &caller{
		by: "ServiceAccount " + namespace + "/" + account, kind: kind, workload: types.NamespacedName{Namespace: namespace, Name: name},
	}
	if err := s.authorize(ctx, user, known.member(), to); err != nil {
		return nil, err
	}
	return known, s.allow(known)
}

// review asks the API server whose token it is.
func (s *Server) review(ctx context.Context, token string) (*authenticationv1.UserInfo, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{s.audience}}}
	if err := s.client.Create(ctx, review); err != nil {
		return nil, fmt.Errorf("have the token reviewed: %w", err)
	}
	switch {
	case !review.Status.Authenticated:
		// What the API server says of it may repeat parts of the token.
		return nil, deny(
			"the API server does not accept the token for the audience %q (kubectl create token NAME --audience=%s makes one)", s.audience,
			s.audience,
		)
	case !slices.Contains(review.Status.Audiences, s.audience):
		return nil, deny("the token is not for the audience %q (kubectl create token NAME --audience=%s makes one)", s.audience, s.audience)
	}
	return &review.Status.User, nil
}

// checkPlace makes sure that a token comes from where it belongs.
func (s *Server) checkPlace(host, namespace, account string, user *authenticationv1.UserInfo) error {
	for _, pod := range s.pods.At(host) {
		if pod.Key().Namespace != namespace {
			return deny("the token is that of ServiceAccount %s/%s, and comes from pod %s of another namespace", namespace, account, pod.Key())
		}
	}
	bound, uid := first(user.Extra[extraPodName]), first(user.Extra[extraPodUID])
	if bound == "" {
		return nil
	}
	pod := s.pods.Get(types.NamespacedName{Namespace: namespace, Name: bound})
	if pod == nil || string(pod.UID()) != uid || pod.Ended() || !slices.Contains(pod.Addresses(), host) {
		return deny("the token was made for pod %s/%s, and the caller's address %s is not that pod's", namespace, bound, host)
	}
	return nil
}

func first(values authenticationv1.ExtraValue) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// authorize asks the API server whether a user may do this to a member.
func (s *Server) authorize(ctx context.Context, user *authenticationv1.UserInfo, member types.NamespacedName, to intent) error {
	extra := map[string]authorizationv1.ExtraValue{}
	for key, values := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: member.Namespace, Name: member.Name, Verb: to.verb,
			Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Resource: "ensemblemembers", Subresource: to.subresource,
		},
	}}
	if err := s.client.Create(ctx, review); err != nil {
		return fmt.Errorf("ask whether %s may %s the member: %w", user.Username, to.verb, err)
	}
	if !review.Status.Allowed {
		resource := "ensemblemembers"
		if to.subresource != "" {
			resource += "/" + to.subresource
		}
		return deny("%s may not %s %s in namespace %s: a Role has to grant that", user.Username, to.verb, resource, member.Namespace)
	}
	return nil
}
