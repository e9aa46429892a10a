package endpoint

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/job"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// The MiniCluster of the tests, its uid, and the address of its pod.
const (
	demo    = "demo"
	demoUID = types.UID("0b9e6ff0-4e4c-4f4a-9a33-9d64c0f8fd42")
	podIP   = "203.0.113.1"
)

// estate is a server with what it reads, and counts what the API server is asked.
type estate struct {
	*Server
	objects client.WithWatch
	// reviews are the tokens that were reviewed and the rights that were asked for, reads the live reads of members.
	reviews, reads int
	// log is what was logged.
	log []string
}

// newEstate is a server whose API server has some objects, and whose cache has another version of the EnsembleMember, where one
// is given. The API server knows the token "good", which may do everything in the namespace default.
func newEstate(t *testing.T, o Options, cached *v1alpha1.EnsembleMember, objects ...client.Object) *estate {
	t.Helper()
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(kinds); err != nil {
			t.Fatal(err)
		}
	}
	e := &estate{}
	builder := fake.NewClientBuilder().WithScheme(kinds).WithObjects(objects...).WithStatusSubresource(&v1alpha1.EnsembleMember{})
	o.Pods = pods.New()
	for _, object := range objects {
		if pod, is := object.(*corev1.Pod); is {
			if err := o.Pods.Add(pod); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.objects = builder.Build()
	o.Client = interceptor.NewClient(e.objects, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
			if member, is := into.(*v1alpha1.EnsembleMember); is && cached != nil {
				cached.DeepCopyInto(member)
				return nil
			}
			return c.Get(ctx, key, into, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.CreateOption) error {
			switch review := object.(type) {
			case *authenticationv1.TokenReview:
				e.reviews++
				review.Status.Authenticated = review.Spec.Token == "good"
				review.Status.Audiences = review.Spec.Audiences
				review.Status.User.Username = userPrefix + "default:account"
				return nil
			case *authorizationv1.SubjectAccessReview:
				e.reviews++
				review.Status.Allowed = true
				return nil
			}
			return c.Create(ctx, object, opts...)
		},
	})
	o.Live = interceptor.NewClient(e.objects, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
			if _, is := into.(*v1alpha1.EnsembleMember); is {
				e.reads++
			}
			return c.Get(ctx, key, into, opts...)
		},
	})
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	o.Events, o.Clock, o.Metrics, o.Audience = &events.FakeRecorder{}, clock.RealClock{}, metrics, "test"
	if o.Kinds == nil {
		o.Kinds = member.Kinds{minicluster.Kind{}}
	}
	o.Log = funcr.New(func(_, args string) { e.log = append(e.log, args) }, funcr.Options{})
	e.Server = New(o)
	return e
}

// ask sends a request of a kind: grow, update or status. It returns what became of it and why.
func (e *estate) ask(t *testing.T, ip, request, name string, token ...string) (ensemble.Response_ResultType, string) {
	t.Helper()
	return e.askAs(t, "minicluster", ip, request, name, token...)
}

// askAs is ask of somebody who calls the kind of the workload by a word.
func (e *estate) askAs(t *testing.T, word, ip, request, name string, token ...string) (ensemble.Response_ResultType, string) {
	t.Helper()
	ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 40000}, AuthInfo: credentials.TLSInfo{}})
	if len(token) > 0 {
		ctx = metadata.NewIncomingContext(ctx, metadata.MD{"authorization": {bearer + token[0]}})
	}
	var response *ensemble.Response
	var err error
	switch request {
	case "status":
		response, err = e.RequestStatus(ctx, &ensemble.StatusRequest{Member: word, Name: name})
	case "update":
		response, err = e.RequestUpdate(ctx, &ensemble.UpdateRequest{Member: word, Name: name, Payload: `{"queue": {"run": 1}}`})
	default:
		response, err = e.RequestAction(ctx, &ensemble.ActionRequest{Member: word, Name: name, Action: request})
	}
	if err != nil {
		t.Fatal(err)
	}
	var payload struct{ Reason string }
	if err := json.Unmarshal([]byte(response.GetPayload()), &payload); err != nil {
		t.Fatal(err)
	}
	return response.GetStatus(), payload.Reason
}

// desired size is the size that the ensemble wants, as the API server has it.
func (e *estate) desire(t *testing.T) int32 {
	t.Helper()
	member := &v1alpha1.EnsembleMember{}
	if err := e.objects.Get(t.Context(), types.NamespacedName{Namespace: "default", Name: demo}, member); err != nil {
		t.Fatal(err)
	}
	return member.Spec.Size
}

// memberFor is the EnsembleMember demo of a MiniCluster.
func memberFor(cluster types.UID) *v1alpha1.EnsembleMember {
	owner := metav1.NewControllerRef(&metav1.ObjectMeta{Name: demo, UID: cluster}, minicluster.GroupVersionKind)
	return &v1alpha1.EnsembleMember{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: demo, UID: cluster + "-member", OwnerReferences: []metav1.OwnerReference{*owner},
		},
		Spec: v1alpha1.EnsembleMemberSpec{Size: 1, MinSize: 1, MaxSize: 5, NodePools: []string{"hpc"}},
	}
}

// podFor is a Job that says that it is of a MiniCluster, and a pod of the Job.
func podFor(job, cluster string, uid types.UID) (*batchv1.Job, *corev1.Pod) {
	owner := metav1.NewControllerRef(&metav1.ObjectMeta{Name: cluster, UID: uid}, minicluster.GroupVersionKind)
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: job, UID: types.UID(job + "-uid"), OwnerReferences: []metav1.OwnerReference{*owner},
		},
	}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: job + "-0", UID: types.UID(job + "-0-uid"),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(j, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: podIP},
	}
	return j, p
}

// TestWhoseJob: a Job says whose it is, and whoever may create Jobs can have one say anything. Its pods speak for a MiniCluster
// if it is the one Job that this MiniCluster can have, and the EnsembleMember is of this MiniCluster too.
func TestWhoseJob(t *testing.T) {
	t.Parallel()
	const other = types.UID("00000000-0000-0000-0000-000000000000")
	const isMine, hasUID = `its Job "mine" says that it is MiniCluster "`, "belongs to MiniCluster default/demo with the uid "
	huge := strings.Repeat("x", 1<<16)
	for name, row := range map[string]struct {
		// job is the name of the Job, which says that it is of the MiniCluster of that name and uid.
		job, cluster string
		uid          types.UID
		// cached is the uid of the MiniCluster that the cache has the member of, live that of the API server.
		cached, live types.UID
		// written is what is said to who writes, read to who only reads; nothing where it is granted.
		written, read string
	}{
		"its Job":               {demo, demo, demoUID, demoUID, demoUID, "", ""},
		"a Job of another name": {"mine", demo, demoUID, demoUID, demoUID, isMine + `demo"'s`, isMine + `demo"'s`},
		"a Job of another name, and more": {
			"mine", huge, demoUID, demoUID, demoUID, isMine + huge[:40] + `..."'s`, isMine + huge[:40] + `..."'s`,
		},
		"a Job of its name that is made up":   {demo, demo, other, demoUID, demoUID, hasUID + string(other), hasUID + string(other)},
		"a member that awaits its collection": {demo, demo, demoUID, other, other, hasUID + string(demoUID), hasUID + string(demoUID)},
		"a cache that has an old member":      {demo, demo, demoUID, other, demoUID, "", hasUID + string(demoUID)},
		"a cache that has no new member":      {demo, demo, demoUID, demoUID, other, hasUID + string(demoUID), ""},
	} {
		for request, says := range map[string]string{"grow": row.written, "update": row.written, "status": row.read} {
			t.Run(name+": "+request, func(t *testing.T) {
				t.Parallel()
				if request == "update" && row.cached == row.uid {
					// What is told is stored in an object of the member that the cache has, and goes with that.
					says = row.read
				}
				job, pod := podFor(row.job, row.cluster, row.uid)
				var cached *v1alpha1.EnsembleMember
				if row.cached != row.live {
					// The API server takes no write that is based on such an old version.
					cached = memberFor(row.cached)
					cached.ResourceVersion = "1"
				}
				e := newEstate(t, Options{}, cached, job, pod, memberFor(row.live))
				status, reason := e.ask(t, podIP, request, demo)
				switch {
				case says == "" && status != ensemble.Response_SUCCESS:
					t.Errorf("the answer is %s: %s", status, reason)
				case says != "" && (status != ensemble.Response_DENIED || !strings.Contains(reason, says)):
					t.Errorf("the answer is %s: %s; not DENIED with %q", status, reason, says)
				}
				size := int32(1)
				if request == "grow" && says == "" {
					size = 2
				}
				if is := e.desire(t); is != size {
					t.Errorf("the desired size is %d, not %d", is, size)
				}
				if request == "status" && e.reads > 0 {
					t.Errorf("the API server was asked %d times", e.reads)
				}
			})
		}
	}
}

// train is a JobSet of a driver and two Jobs of workers, its EnsembleMember, and a Job that says that it is of it, with its pod. Of only
// the workers are there no others.
func train(t *testing.T, name string, only bool) []client.Object {
	t.Helper()
	replicated := func(name string, replicas, size int64) any {
		return map[string]any{"name": name, "replicas": replicas, "template": map[string]any{"spec": map[string]any{
			"parallelism": size, "completions": size, "template": map[string]any{"spec": map[string]any{}},
		}}}
	}
	jobs := []any{replicated("driver", 1, 1), replicated("workers", 2, 2)}
	of := &v1alpha1.EnsembleMember{Spec: v1alpha1.EnsembleMemberSpec{
		Target: member.Target(jobset.Kind{}, "train"), Size: 5, MinSize: 3, MaxSize: 9, NodePools: []string{"hpc"},
		Groups: []v1alpha1.MemberGroup{
			{Name: "driver", Size: 1, MinSize: 1, MaxSize: 1}, {Name: "workers", Size: 4, MinSize: 2, MaxSize: 8, Unit: 2},
		},
	}}
	if only {
		jobs, of.Spec.Groups = jobs[1:], nil
		of.Spec.Size, of.Spec.MinSize, of.Spec.MaxSize = 4, 2, 8
	}
	u := member.NewObject(jobset.GroupVersionKind)
	u.SetNamespace("default")
	u.SetName("train")
	u.SetUID("uid-of-train")
	u.SetAnnotations(map[string]string{v1alpha1.AnnotationNodePools: "hpc"})
	u.Object["spec"] = map[string]any{"replicatedJobs": jobs}
	owners := []metav1.OwnerReference{*metav1.NewControllerRef(u, jobset.GroupVersionKind)}
	of.ObjectMeta = metav1.ObjectMeta{Namespace: "default", Name: "jobset.train", UID: "uid-of-member", OwnerReferences: owners}
	j, pod := podFor(name, "train", u.GetUID())
	j.OwnerReferences = owners
	return []client.Object{u, of, j, pod}
}

// TestWhichJobs: of the Jobs that say that they are of a JobSet, the pods of those speak for it that it has.
func TestWhichJobs(t *testing.T) {
	t.Parallel()
	const none = `says that it is JobSet "train"'s, which has no such Job`
	for name, row := range map[string]struct {
		only bool
		says string
	}{
		"train-driver-0":  {false, ""},
		"train-workers-1": {false, ""},
		"train-workers-0": {true, ""},
		"train-workers-2": {true, none},
		"train-workers-9": {false, none},
		"train-zzz-0":     {true, none},
		"train-driver-1":  {false, none},
		"train-workers":   {false, "whose Job has the same name as the JobSet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, Options{Kinds: member.Kinds{minicluster.Kind{}, jobset.Kind{}}}, nil, train(t, name, row.only)...)
			status, reason := e.askAs(t, "jobset", podIP, "status", "train")
			if row.says == "" && status != ensemble.Response_SUCCESS {
				t.Errorf("the answer is %s: %s", status, reason)
			}
			if row.says != "" && (status != ensemble.Response_DENIED || !strings.Contains(reason, row.says)) {
				t.Errorf("the answer is %s: %s; not DENIED with %q", status, reason, row.says)
			}
		})
	}
}

// TestFitsOfAnOnlyGroup: a growth that no node is large enough for is refused, where Jobs are called by their group too, an only one.
func TestFitsOfAnOnlyGroup(t *testing.T) {
	t.Parallel()
	for cpu, want := range map[string]ensemble.Response_ResultType{"3": ensemble.Response_SUCCESS, "9": ensemble.Response_DENIED} {
		objects := train(t, "train-workers-0", true)
		for _, object := range objects {
			if j, is := object.(*batchv1.Job); is {
				j.Spec.Template.Spec.Containers = []corev1.Container{{
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}},
				}}
			}
		}
		pool := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "hpc"}, Spec: v1alpha1.NodePoolSpec{MaxSize: 9}}
		pool.Spec.Template.Capacity = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("9"),
		}
		e := newEstate(t, Options{Kinds: member.Kinds{minicluster.Kind{}, jobset.Kind{}}}, nil, append(objects, pool)...)
		status, reason := e.askAs(t, "jobset", podIP, "grow", "train")
		if status != want || (want == ensemble.Response_DENIED && !strings.Contains(reason, "is large enough, so the size stays as it is")) {
			t.Errorf("with pods of %s CPUs the answer is %s: %s; not %s", cpu, status, reason, want)
		}
	}
}

// TestLongNames: what is too long to be a name is denied before anything is done with it, and nothing repeats it.
func TestLongNames(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		name string
		says string
	}{
		"as long as may be":    {strings.Repeat("n", 63) + "/" + strings.Repeat("m", 253), ""},
		"a long name":          {strings.Repeat("m", 254), "name has 254 characters; that of a MiniCluster has at most 253"},
		"a huge name":          {strings.Repeat("m", 1<<16), "name has 65536 characters; that of a MiniCluster has at most 253"},
		"a long namespace":     {strings.Repeat("n", 64) + "/m", "the namespace in name has 64 characters; that of a namespace has at most 63"},
		"a name after another": {"n/" + strings.Repeat("m/", 1<<15), "name has 65536 characters; that of a MiniCluster has at most 253"},
	} {
		for caller, token := range map[string][]string{"by token": {"good"}, "believed": nil} {
			t.Run(name+" "+caller, func(t *testing.T) {
				t.Parallel()
				e := newEstate(t, Options{TrustUnknown: true, Rate: Rate{PerSecond: 1, Burst: 1}}, nil)
				status, reason := e.ask(t, "198.51.100.9", "grow", row.name, token...)
				if row.says == "" {
					if !strings.Contains(reason, "is not managed") {
						t.Errorf("the answer is %s: %s", status, reason)
					}
					return
				}
				if status != ensemble.Response_DENIED || reason != row.says {
					t.Errorf("the answer is %s: %s; not DENIED: %s", status, reason, row.says)
				}
				if e.reviews > 0 || e.limit.known.Len() > 0 {
					t.Errorf("%d reviews were made, and %d members are known", e.reviews, e.limit.known.Len())
				}
				if slices.ContainsFunc(e.log, func(line string) bool { return len(line) > 1000 }) {
					t.Errorf("it logs %.1000s", strings.Join(e.log, "\n"))
				}
			})
		}
	}
}

// TestRefusedTokens: an address that has sent so many tokens in vain has no more looked at, which the log tells once. Tokens
// that are accepted are not counted, and no other address is held up.
func TestRefusedTokens(t *testing.T) {
	t.Parallel()
	const one, another = "198.51.100.1", "198.51.100.2"
	e := newEstate(t, Options{Rate: Rate{PerSecond: 1e-6, Burst: 40}, RefusedTokens: Rate{PerSecond: 1e-6, Burst: 5}}, nil, memberFor(demoUID))
	for range 30 {
		if status, reason := e.ask(t, one, "status", demo, "good"); status != ensemble.Response_SUCCESS {
			t.Fatalf("a good token: %s: %s", status, reason)
		}
	}
	for n := range 100 {
		says := "the API server does not accept the token"
		if n >= 5 {
			says = "requests with a token were refused to the address 198.51.100.1 too often; 5 may be at once"
		}
		if status, reason := e.ask(t, one, "grow", demo, "garbage"); status != ensemble.Response_DENIED || !strings.Contains(reason, says) {
			t.Fatalf("token %d that is garbage: %s: %s; not DENIED with %q", n, status, reason, says)
		}
	}
	if asked := e.reviews - 2*30; asked != 5 {
		t.Errorf("of 100 tokens that are garbage %d were reviewed", asked)
	}
	if len(e.log) != 6 {
		t.Errorf("the log has %d lines, not one for each review and one: %q", len(e.log), e.log)
	}
	if status, reason := e.ask(t, another, "grow", demo, "good"); status != ensemble.Response_SUCCESS {
		t.Errorf("a good token from another address: %s: %s", status, reason)
	}

	// Who has a good token and asks more often than its member may costs no more than that.
	before := e.reviews
	for range 100 {
		e.ask(t, another, "status", demo, "good")
	}
	if asked := (e.reviews - before) / 2; asked != 40-31+5 {
		t.Errorf("of 100 requests, 9 within the rate of the member, %d were reviewed", asked)
	}
}

// TestKindOfMember: who has a token means a workload of the kind that it says, and what is refused is told of that workload, not of its
// member.
func TestKindOfMember(t *testing.T) {
	t.Parallel()
	const ip = "198.51.100.7"
	sweep := metav1.NewControllerRef(&metav1.ObjectMeta{Name: "sweep", UID: "uid-of-sweep"}, job.GroupVersionKind)
	of := memberFor(demoUID)
	of.Name, of.OwnerReferences = "job.sweep", []metav1.OwnerReference{*sweep}
	of.Spec.Target = member.Target(job.Kind{}, "sweep")
	both := member.Kinds{minicluster.Kind{}, job.Kind{}}
	for name, row := range map[string]struct {
		kinds      member.Kinds
		word, name string
		says       string
	}{
		"its kind": {both, "job", "sweep", ""},
		"the word of another kind": {both, "minicluster", "job.sweep",
			`MiniCluster default/job.sweep is not managed: EnsembleMember default/job.sweep is that of Job sweep; say member "job" and name "sweep"`},
		"the same, where its kind is not switched on": {member.Kinds{minicluster.Kind{}}, "minicluster", "job.sweep",
			"MiniCluster default/job.sweep is not managed: EnsembleMember default/job.sweep is of a kind that is not switched on"},
		"the name of the member": {both, "job", "job.sweep", "Job default/job.sweep is not managed; give it the annotation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, Options{Kinds: row.kinds, Rate: Rate{PerSecond: 1e-6, Burst: 1}}, nil, of.DeepCopy())
			status, reason := e.askAs(t, row.word, ip, "grow", row.name, "good")
			if (row.says == "") != (status == ensemble.Response_SUCCESS) || !strings.HasPrefix(reason, row.says) {
				t.Errorf("the answer is %s: %s; not %q", status, reason, row.says)
			}
			kind := map[string]string{"job": "Job", "minicluster": "MiniCluster"}[row.word]
			want := kind + " default/" + row.name + " asks more often than 1e-06 times a second"
			if status, reason := e.askAs(t, row.word, ip, "grow", row.name, "good"); status != ensemble.Response_DENIED ||
				!strings.HasPrefix(reason, want) {
				t.Errorf("the second answer is %s: %s; not DENIED: %s", status, reason, want)
			}
			stored := &v1alpha1.EnsembleMember{}
			if err := e.objects.Get(t.Context(), types.NamespacedName{Namespace: "default", Name: "job.sweep"}, stored); err != nil {
				t.Fatal(err)
			}
			if grown := stored.Spec.Size == 2; grown != (row.says == "") {
				t.Errorf("the desired size is %d", stored.Spec.Size)
			}
		})
	}
}
