package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/check"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/fluxoperator/crd"
)

// patience bounds what the API server does by itself: it learns of rights and policies by watching.
const patience = 2 * time.Minute

// site is a cluster with the shipped manifests, in which pods are objects that the test writes.
type site struct {
	*testing.T
	client     client.Client
	kubectl    string
	kubeconfig string
	// sound are the objects of a sound system, as they are created again after a fault.
	autoscaler *corev1.Pod
	authority  *authority
	caller     *caller
	// again shows the right certificate to the API server again.
	again func()
}

func newSite(t *testing.T, arguments ...string) *site {
	t.Helper()
	caller := newCaller(t)
	plane := controlplanetest.Start(t, controlplane.Options{APIServerArguments: append(arguments, caller.arguments...)})
	config := plane.AdminConfig()
	config.QPS = -1
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	kubectl, err := plane.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, kubectl: kubectl, kubeconfig: filepath.Join(t.TempDir(), "kubeconfig"), authority: newAuthority(t), caller: caller}
	if err := controlplane.WriteKubeconfig(s.kubeconfig, config); err != nil {
		t.Fatal(err)
	}
	if s.client, err = client.New(config, client.Options{HTTPClient: transport}); err != nil {
		t.Fatal(err)
	}
	return s
}

// kubectlApply applies what arguments name, or else a text.
func (s *site) kubectlApply(text []byte, arguments ...string) {
	s.Helper()
	command := exec.CommandContext(s.Context(), s.kubectl, append([]string{
		"--kubeconfig=" + s.kubeconfig, "apply", "--server-side", "--force-conflicts",
	}, arguments...)...)
	command.Stdin = bytes.NewReader(text)
	if said, err := command.CombinedOutput(); err != nil {
		s.Fatalf("kubectl apply %v: %v: %s", arguments, err, said)
	}
}

func (s *site) do(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// root is that of the repository.
const root = "../../../.."

// install does what an administrator, and then the programs, do.
func (s *site) install(overlay string) {
	s.Helper()
	s.kubectlApply(crd.MiniClusters, "-f", "-")
	s.kubectlApply(nil, "-k", filepath.Join(root, overlay))
	s.kubectlApply(nil, "-k", filepath.Join(root, "examples/cluster-autoscaler"))
	now := time.Now()
	for name, of := range map[string]struct{ common, dns string }{
		"ensemble-autoscaler-provider-tls":   {"provider", "provider." + check.Namespace + ".svc"},
		"cluster-autoscaler-provider-tls":    {"cluster-autoscaler", ""},
		"ensemble-autoscaler-controller-tls": {"controller", "webhook." + check.Namespace + ".svc"},
	} {
		certificate, key := s.authority.issue(s.T, of.common, of.dns, now.Add(-48*time.Hour), now.Add(365*24*time.Hour))
		s.do("create a Secret", s.client.Create(s.Context(), s.secret(name, certificate)))
		if of.common == "controller" {
			s.caller.show(certificate, key)
			s.again = func() { s.caller.show(certificate, key) }
		}
	}
	s.trust(s.authority.certificate)
	for _, name := range []string{"provider", "controller", "cluster-autoscaler"} {
		pod := s.podOf(name)
		s.run(pod)
		if name == "cluster-autoscaler" {
			s.autoscaler = pod
		}
	}
	s.answer(true)
}

func (s *site) secret(name string, certificate []byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: check.Namespace, Name: name,
	}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		"tls.crt": certificate, "tls.key": []byte("of no interest"), "ca.crt": s.authority.certificate,
	}}
}

// podOf is the pod that a Deployment would have.
func (s *site) podOf(name string) *corev1.Pod {
	s.Helper()
	var d appsv1.Deployment
	s.do("get a Deployment", s.client.Get(s.Context(), client.ObjectKey{Namespace: check.Namespace, Name: name}, &d))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: check.Namespace, Name: name + "-0", Labels: d.Spec.Template.Labels,
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(&metav1.ObjectMeta{Name: name, UID: d.UID}, appsv1.SchemeGroupVersion.WithKind("ReplicaSet")),
			}},
		Spec: d.Spec.Template.Spec,
	}
}

// run creates a pod and says that it runs, as a kubelet does.
func (s *site) run(pod *corev1.Pod) {
	s.Helper()
	pod = pod.DeepCopy()
	s.do("create a pod", s.client.Create(s.Context(), pod))
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for i := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: pod.Spec.Containers[i].Name, Ready: true, State: corev1.ContainerState{
				Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()},
			},
		})
	}
	s.do("say that a pod runs", s.client.Status().Update(s.Context(), pod))
}

// end deletes a pod at once, as there is no kubelet.
func (s *site) end(pod *corev1.Pod) {
	s.Helper()
	s.do("delete a pod", s.client.Delete(s.Context(), pod.DeepCopy(), client.GracePeriodSeconds(0)))
}

// replace runs the Cluster Autoscaler otherwise, and returns what runs it as it was.
func (s *site) replace(change func(*corev1.Pod)) (back func()) {
	s.Helper()
	return s.replacePod(s.autoscaler, change)
}

// replacePod is replace for another pod.
func (s *site) replacePod(pod *corev1.Pod, change func(*corev1.Pod)) (back func()) {
	s.Helper()
	s.end(pod)
	other := pod.DeepCopy()
	change(other)
	s.run(other)
	return func() {
		s.end(other)
		s.run(pod)
	}
}

// allow gives the provider all rights on a kind of objects, in a namespace.
func (s *site) allow(namespace, group string, resources ...string) *rbacv1.RoleBinding {
	s.Helper()
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "provider"}
	s.do("create a Namespace", s.client.Create(s.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	s.do("create a Role", s.client.Create(s.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{group}, Resources: resources, Verbs: []string{"*"}},
	}}))
	b := &rbacv1.RoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "provider"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: check.Namespace, Name: "provider"}},
	}
	s.do("create a RoleBinding", s.client.Create(s.Context(), b))
	return b
}

// answer says whether somebody answers for the webhooks.
func (s *site) answer(ready bool) {
	s.Helper()
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: check.Namespace, Name: "webhook-0", Labels: map[string]string{discoveryv1.LabelServiceName: "webhook"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}
	s.do("delete the endpoints", client.IgnoreNotFound(s.client.Delete(s.Context(), slice.DeepCopy())))
	s.do("create the endpoints", s.client.Create(s.Context(), slice))
}

// port gives a Service another port.
func (s *site) port(name string, number int32) (back func()) {
	s.Helper()
	write := func(number int32) (was int32) {
		var service corev1.Service
		s.do("get a Service", s.client.Get(s.Context(), client.ObjectKey{Namespace: check.Namespace, Name: name}, &service))
		was, service.Spec.Ports[0].Port = service.Spec.Ports[0].Port, number
		s.do("write a Service", s.client.Update(s.Context(), &service))
		return was
	}
	was := write(number)
	return func() { write(was) }
}

// trust writes who is trusted into all webhooks.
func (s *site) trust(authority []byte) {
	s.Helper()
	var validating admissionregistrationv1.ValidatingWebhookConfigurationList
	var mutating admissionregistrationv1.MutatingWebhookConfigurationList
	s.do("list the webhooks", errors.Join(s.client.List(s.Context(), &validating), s.client.List(s.Context(), &mutating)))
	for i := range validating.Items {
		for j := range validating.Items[i].Webhooks {
			validating.Items[i].Webhooks[j].ClientConfig.CABundle = authority
		}
		s.do("write a webhook", s.client.Update(s.Context(), &validating.Items[i]))
	}
	for i := range mutating.Items {
		for j := range mutating.Items[i].Webhooks {
			mutating.Items[i].Webhooks[j].ClientConfig.CABundle = authority
		}
		s.do("write a webhook", s.client.Update(s.Context(), &mutating.Items[i]))
	}
}

// check runs the command as a user, who is the administrator without a name, and returns its report.
func (s *site) check(user string, arguments ...string) (*check.Report, error) {
	s.Helper()
	var out bytes.Buffer
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig = &s.kubeconfig
	if user != "" {
		flags.Impersonate = &user
	}
	env := &cli.Environment{
		Flags: flags, Streams: genericiooptions.IOStreams{Out: &out, ErrOut: &out}, Version: "test", Now: time.Now, Output: cli.OutputJSON,
	}
	cmd := check.New(env)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(arguments)
	failed := cmd.ExecuteContext(s.Context())
	var exit *cli.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		s.Fatal(failed)
	}
	report := &check.Report{}
	if err := json.Unmarshal(out.Bytes(), report); err != nil {
		s.Fatalf("%v: %s", err, out.String())
	}
	if report.Failed() != (failed != nil) {
		s.Errorf("it ends with %v, and the report is %+v", failed, report.Findings)
	}
	return report, failed
}

// until waits until a check finds the findings that are wanted, each as its severity, reason and object, and no other.
func (s *site) until(want ...string) {
	s.Helper()
	var got []string
	var last *check.Report
	if err := wait.PollUntilContextTimeout(s.Context(), 100*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		last, _ = s.check("")
		got = nil
		for _, f := range last.Findings {
			got = append(got, fmt.Sprintf("%s %s %s", f.Severity, f.Reason, f.Object))
			if f.Message == "" || f.Remedy == "" {
				s.Errorf("%+v says nothing, or not what to do", f)
			}
		}
		return slices.Equal(got, want), nil
	}); err != nil {
		s.Fatalf("%v: found\n  %s\nand not\n  %s\n%+v", err, strings.Join(got, "\n  "), strings.Join(want, "\n  "), last)
	}
}

// TestCheck plants each fault in a sound system, finds it and nothing else, and takes it back.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := newSite(t)

	s.until("Error FluxOperatorMissing API server v1.37.2", "Note NotInstalled Namespace "+check.Namespace)

	s.install("manifests")
	s.until()
	s.hasAsked("/mutate-minicluster", "/size-minicluster", "/validate-ensemble", "/validate-minicluster", "/validate-nodepool")
	s.hasCreatedNothing()

	admin := s.client
	namespaced := func(kind string) string { return kind + " " + check.Namespace + "/" }
	for _, fault := range []struct {
		name  string
		plant func() (back func())
		want  []string
	}{
		{"no --enforce-node-group-min-size", func() func() {
			return s.replace(func(pod *corev1.Pod) {
				c := &pod.Spec.Containers[0]
				c.Args = slices.DeleteFunc(slices.Clone(c.Args), func(arg string) bool { return arg == "--enforce-node-group-min-size" })
			})
		}, []string{"Error MinSizeNotEnforced " + namespaced("Pod") + "cluster-autoscaler-0"}},
		{"a second autoscaler", func() func() {
			other := s.autoscaler.DeepCopy()
			other.Name, other.Labels = "other-0", nil
			other.OwnerReferences = nil
			other.Labels = s.autoscaler.Labels
			other.Spec.Containers[0].Args = append(slices.Clone(other.Spec.Containers[0].Args), "--leader-elect-resource-name=other")
			s.run(other)
			return func() { s.end(other) }
		}, []string{"Error SecondAutoscaler Cluster Autoscaler"}},
		{"a second autoscaler with the same lease", func() func() {
			other := s.autoscaler.DeepCopy()
			other.Name, other.OwnerReferences = "other-0", nil
			other.Spec.Containers[0].Args[0] = "--cloud-provider=clusterapi"
			s.run(other)
			return func() { s.end(other) }
		}, []string{"Error SecondAutoscaler Lease " + check.Namespace + "/cluster-autoscaler"}},
		{"a wrong label for the NetworkPolicy", func() func() {
			return s.replace(func(pod *corev1.Pod) { pod.Labels = map[string]string{"app.kubernetes.io/name": "autoscaler"} })
		}, []string{"Error NotAdmitted " + namespaced("Pod") + "cluster-autoscaler-0"}},
		{"an expired Secret", func() func() {
			var before, secret corev1.Secret
			key := client.ObjectKey{Namespace: check.Namespace, Name: "cluster-autoscaler-provider-tls"}
			s.do("get the Secret", admin.Get(s.Context(), key, &before))
			before.DeepCopyInto(&secret)
			now := time.Now()
			secret.Data["tls.crt"], _ = s.authority.issue(s.T, "cluster-autoscaler", "", now.Add(-48*time.Hour), now.Add(-time.Hour))
			s.do("write the Secret", admin.Update(s.Context(), &secret))
			return func() {
				secret.Data = before.Data
				s.do("write the Secret", admin.Update(s.Context(), &secret))
			}
		}, []string{"Error CertificateExpired " + namespaced("Secret") + "cluster-autoscaler-provider-tls"}},
		{"no Secret", func() func() {
			var secret corev1.Secret
			s.do(
				"get the Secret",
				admin.Get(s.Context(), client.ObjectKey{Namespace: check.Namespace, Name: "ensemble-autoscaler-provider-tls"}, &secret),
			)
			s.do("delete the Secret", admin.Delete(s.Context(), secret.DeepCopy()))
			return func() {
				secret.ResourceVersion, secret.UID = "", ""
				s.do("create the Secret", admin.Create(s.Context(), &secret))
			}
		}, []string{"Error SecretMissing " + namespaced("Secret") + "ensemble-autoscaler-provider-tls"}},
		{"an unreachable webhook", func() func() {
			s.answer(false)
			return func() { s.answer(true) }
		}, []string{"Error WebhookUnreachable " + namespaced("Service") + "webhook"}},
		{"no way from the API server to the webhooks", func() func() {
			s.caller.cut(true)
			return func() { s.caller.cut(false) }
		}, []string{"Error WebhookUnreachable " + namespaced("Service") + "webhook"}},
		{"a certificate for another name at the webhooks", func() func() {
			now := time.Now()
			s.caller.show(s.authority.issue(s.T, "controller", "controller.example.com", now.Add(-48*time.Hour), now.Add(time.Hour)))
			return s.again
		}, []string{"Error WebhookNotTrusted " + namespaced("Service") + "webhook"}},
		{"a Service with another port", func() func() {
			return s.port("provider", 9000)
		}, []string{"Error CloudConfigWrong ConfigMap " + check.Namespace + "/cluster-autoscaler-cloud-config"}},
		{"a port of the webhooks' Service that the API server does not call", func() func() {
			return s.port("webhook", 9443)
		}, []string{"Error WebhookUnreachable " + namespaced("Service") + "webhook"}},
		{"authorities of another program", func() func() {
			s.trust(newAuthority(s.T).certificate)
			return func() { s.trust(s.authority.certificate) }
		}, []string{
			"Error CABundleWrong MutatingWebhookConfiguration ensemble-autoscaler", "Error CABundleWrong ValidatingWebhookConfiguration " +
				"ensemble-autoscaler",
		}},
		{"a policy that is not bound", func() func() {
			binding := &admissionregistrationv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "ensemble-autoscaler-gates"}}
			s.do("get the binding", admin.Get(s.Context(), client.ObjectKeyFromObject(binding), binding))
			s.do("delete the binding", admin.Delete(s.Context(), binding.DeepCopy()))
			return func() {
				binding.ResourceVersion, binding.UID = "", ""
				s.do("create the binding", admin.Create(s.Context(), binding))
			}
		}, []string{"Error PolicyNotBound MutatingAdmissionPolicy ensemble-autoscaler-gates"}},
		{"no policy", func() func() {
			policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "ensemble-autoscaler-kubelets"}}
			s.do("get the policy", admin.Get(s.Context(), client.ObjectKeyFromObject(policy), policy))
			s.do("delete the policy", admin.Delete(s.Context(), policy.DeepCopy()))
			return func() {
				policy.ResourceVersion, policy.UID = "", ""
				s.do("create the policy", admin.Create(s.Context(), policy))
			}
		}, []string{"Error PolicyMissing ValidatingAdmissionPolicy ensemble-autoscaler-kubelets"}},
		{"rights that are missing", func() func() {
			binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "ensemble-autoscaler-provider"}}
			s.do("get the binding", admin.Get(s.Context(), client.ObjectKeyFromObject(binding), binding))
			s.do("delete the binding", admin.Delete(s.Context(), binding.DeepCopy()))
			return func() {
				binding.ResourceVersion, binding.UID = "", ""
				s.do("create the binding", admin.Create(s.Context(), binding))
			}
		}, []string{"Error RightsMissing ServiceAccount " + check.Namespace + "/provider"}},
		{"rights on Machines of one of two namespaces", func() func() {
			s.allow("team-a", "cluster.x-k8s.io", "machines", "clusters")
			b := s.allow("team-b", "cluster.x-k8s.io", "machines", "clusters")
			back := s.replacePod(s.podOf("provider"), func(pod *corev1.Pod) {
				pod.Spec.Containers[0].Args = append(slices.Clone(pod.Spec.Containers[0].Args), "--cluster-api=team-a", "--cluster-api=team-b")
			})
			s.until()
			s.do("delete the binding", admin.Delete(s.Context(), b))
			return back
		}, []string{"Error RightsMissing ServiceAccount " + check.Namespace + "/provider"}},
		{"our Secret, which is mounted and does not exist", func() func() {
			return s.replacePod(s.podOf("provider"), func(pod *corev1.Pod) {
				c := &pod.Spec.Containers[0]
				c.Args = append(slices.Clone(c.Args), "--tls-cert-file=/tls/tls.crt")
				c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "mine", MountPath: "/tls"})
				pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "mine", VolumeSource: corev1.VolumeSource{
					Secret: &corev1.SecretVolumeSource{SecretName: "mine"},
				}})
			})
		}, []string{"Error SecretMissing " + namespaced("Secret") + "mine"}},
	} {
		back := fault.plant()
		s.Logf("planted: %s", fault.name)
		s.until(fault.want...)
		back()
		s.until()
	}

	s.nobody()

	// What is asked about is what is in a namespace; where that is not said the one with the pods of the programs.
	s.hasErrors("hpc-system", "--system-namespace=hpc-system")
	s.do("create a Namespace", s.client.Create(s.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "hpc-system"}}))
	s.do(
		"create a ServiceAccount",
		s.client.Create(s.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "hpc-system", Name: "controller"}}),
	)
	other := s.podOf("controller")
	other.Namespace, other.OwnerReferences = "hpc-system", nil
	s.run(other)
	s.until()
	s.end(s.podOf("provider"))
	s.end(s.podOf("controller"))
	s.hasErrors("hpc-system")
}

// hasErrors checks a namespace in which the rights and Secrets of the programs are missing.
func (s *site) hasErrors(namespace string, arguments ...string) {
	s.Helper()
	report, _ := s.check("", arguments...)
	for _, want := range []check.Finding{
		{Reason: "ProgramNotReady", Object: "Deployment " + namespace + "/provider"},
		{Reason: "SecretMissing", Object: "Secret " + namespace + "/ensemble-autoscaler-provider-tls"},
		{Reason: "RightsMissing", Object: "ServiceAccount " + namespace + "/controller"},
	} {
		if !slices.ContainsFunc(report.Findings, func(f check.Finding) bool { return f.Reason == want.Reason && f.Object == want.Object }) {
			s.Errorf("%s of %s is not found: %+v", want.Reason, want.Object, report.Findings)
		}
	}
}

// hasAsked checks that the API server was made to ask all webhooks, at the port of their Service.
func (s *site) hasAsked(want ...string) {
	s.Helper()
	if paths, ports := s.caller.asked(); !slices.Equal(paths, want) || !slices.Equal(ports, []string{"443"}) {
		s.Errorf("the API server asked %v at the ports %v, not %v at 443", paths, ports, want)
	}
}

// hasCreatedNothing checks that a check leaves no object behind.
func (s *site) hasCreatedNothing() {
	s.Helper()
	for _, kind := range []string{"nodepools", "miniclusters", "ensembles"} {
		said, err := exec.CommandContext(
			s.Context(), s.kubectl, "--kubeconfig="+s.kubeconfig, "get", kind, "--all-namespaces", "--output=name",
		).Output()
		if err != nil || len(said) > 0 {
			s.Errorf("after a check there are the %s %s (%v)", kind, said, err)
		}
	}
}

// nobody checks as a user who may read nothing: who is told what is not known, and of no fault.
func (s *site) nobody() {
	s.Helper()
	report, err := s.check("nobody")
	if err != nil || len(report.Findings) > 0 || len(report.Unknown) < 5 {
		s.Errorf("nobody is told %+v (%v)", report, err)
	}
	for _, unknown := range report.Unknown {
		if unknown.Verb == "" || unknown.What == "" || !strings.Contains(unknown.Message, "nobody") {
			s.Errorf("a right is not named: %+v", unknown)
		}
	}
}

// TestCheckUnserved: an API server that does not know the policies that give pods their gate is found before an installation, which then
// takes the overlay with the webhook and is sound.
func TestCheckUnserved(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--disable-admission-plugins=MutatingAdmissionPolicy",
		"--runtime-config=admissionregistration.k8s.io/v1/mutatingadmissionpolicies=false,"+
			"admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings=false")
	s.kubectlApply(nil, "-k", filepath.Join(root, "manifests/crd"))
	s.install("manifests/overlays/pod-webhook")
	s.until()
	s.hasAsked("/gate-pod", "/mutate-minicluster", "/size-minicluster", "/validate-ensemble", "/validate-minicluster", "/validate-nodepool")
	s.nobody()
	webhook := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "ensemble-autoscaler-gates"}}
	s.do("delete the webhook", s.client.Delete(s.Context(), webhook))
	s.until("Error PolicyNotServed MutatingAdmissionPolicy ensemble-autoscaler-gates")
}
