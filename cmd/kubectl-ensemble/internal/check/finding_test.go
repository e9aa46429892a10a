package check_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/check"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/manifests"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func shipped(t *testing.T) *check.Shipped {
	t.Helper()
	s, err := check.ReadShipped(manifests.Files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// flagsOfExample are those of examples/cluster-autoscaler.
func flagsOfExample() check.Flags {
	return check.ParseFlags([]string{"/tools/provider", "until-changed", "--file=/tls/tls.crt", "--", "/cluster-autoscaler"}, []string{
		"--cloud-provider=externalgrpc", "--cloud-config=/etc/cluster-autoscaler/cloud-config.yaml", "--namespace=ensemble-autoscaler-system",
		"--enforce-node-group-min-size", "--expander=grpc,least-waste", "--grpc-expander-url=expander.ensemble-autoscaler-system.svc:8087",
		"--grpc-expander-cert=/tls/ca.crt", "--scan-interval=5s", "--initial-node-group-backoff-duration=30s",
	})
}

// sound is a system of which nothing is to be found.
func sound(s *check.Shipped) *check.Facts {
	pod := func(name string) check.Pod {
		return check.Pod{
			Namespace: check.Namespace, Name: name, Ready: true, Image: "ensemble-autoscaler:v1", StartedAt: noon.Add(-time.Hour),
			Labels: map[string]string{"app.kubernetes.io/name": "ensemble-autoscaler-" + name}, Flags: check.Flags{"kwok": "true"}, Owner: name,
			Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: 8086}, {Name: "expander", ContainerPort: 8087}},
		}
	}
	f := &check.Facts{
		Now: noon, Namespace: check.Namespace, Kubernetes: "v1.37.2", Served: map[schema.GroupVersionResource]bool{
			{Group: "flux-framework.org", Version: "v1alpha2", Resource: "miniclusters"}: true,
		},
		Namespaces: map[string]map[string]string{check.Namespace: {"kubernetes.io/metadata.name": check.Namespace}},
		Provider:   []check.Pod{pod("provider")}, Controller: []check.Pod{pod("controller")},
		Endpoints: map[string]int{check.Namespace + "/webhook": 2},
		Services: map[string][]corev1.ServicePort{
			check.Namespace + "/provider": {{Name: "grpc", Port: 8086, TargetPort: intstr.FromString("grpc")}},
			check.Namespace + "/expander": {{Name: "grpc", Port: 8087, TargetPort: intstr.FromString("expander")}},
		},
	}
	autoscaler := check.Autoscaler{Pod: pod("cluster-autoscaler"), Restarts: true, CloudConfig: &check.CloudConfig{
		ConfigMap: check.Namespace + "/cloud-config", Address: "provider.ensemble-autoscaler-system.svc:8086", Cert: "/tls/tls.crt",
		Key: "/tls/tls.key", CACert: "/tls/ca.crt",
	}}
	autoscaler.Flags, autoscaler.Image = flagsOfExample(), "cluster-autoscaler:v1.36.1"
	autoscaler.Labels = map[string]string{"app.kubernetes.io/name": "cluster-autoscaler"}
	f.Autoscalers = []check.Autoscaler{autoscaler}
	for _, resource := range s.Definitions {
		f.Served[resource] = true
	}
	for _, kind := range []string{"validatingadmissionpolicies", "mutatingadmissionpolicies"} {
		f.Served[schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: kind}] = true
	}
	for _, p := range s.Policies {
		of, isBinding := strings.CutSuffix(p.Kind, "Binding")
		policy := check.Policy{Kind: p.Kind, Name: p.Name, Denies: isBinding && of == "ValidatingAdmissionPolicy"}
		if isBinding {
			policy.Binds = p.Name
		}
		f.Policies = append(f.Policies, policy)
	}
	for configuration, names := range s.Webhooks {
		if strings.HasSuffix(configuration, "-gates") {
			continue
		}
		for _, name := range names {
			f.Webhooks = append(f.Webhooks, check.Webhook{
				Configuration: configuration, Name: name, Service: check.Namespace + "/webhook", CABundle: check.Certificates{{}}, Closed: true,
			})
		}
	}
	certificate := func(name string) *check.Secret {
		c := &x509.Certificate{NotBefore: noon.Add(-48 * time.Hour), NotAfter: noon.Add(300 * 24 * time.Hour)}
		c.Subject.CommonName = name
		return &check.Secret{CreatedAt: noon, Certificate: check.Certificates{c}}
	}
	f.Secrets = map[string]*check.Secret{
		check.Namespace + "/ensemble-autoscaler-controller-tls": certificate("controller"),
	}
	// The certificates of files are nobody's business here; TestCheck has those that the programs issue.
	f.Provider[0].Flags["tls-cert-file"], f.Provider[0].TLSSecret = "/tls/tls.crt", "ensemble-autoscaler-provider-tls"
	f.Secrets[check.Namespace+"/ensemble-autoscaler-provider-tls"] = certificate("provider")
	for i := range f.Webhooks {
		f.Webhooks[i].Service = ""
	}
	port, expander := intstr.FromString("grpc"), intstr.FromString("expander")
	f.NetworkPolicies = []networkingv1.NetworkPolicy{{
		ObjectMeta: metav1.ObjectMeta{Namespace: check.Namespace, Name: "provider"},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "ensemble-autoscaler-provider"}},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{
					{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "cluster-autoscaler"}}},
				},
				Ports: []networkingv1.NetworkPolicyPort{{Port: &port}, {Port: &expander}},
			}},
		},
	}}
	return f
}

// nodePoolWebhook is the name of one that is shipped.
const nodePoolWebhook = "nodepools.autoscaling.flux-framework.org"

// moved is a system in another namespace.
func moved(f *check.Facts) {
	const namespace = "hpc-system"
	f.Namespace = namespace
	for _, pods := range [][]check.Pod{f.Provider, f.Controller} {
		for i := range pods {
			pods[i].Namespace = namespace
		}
	}
	a := &f.Autoscalers[0]
	a.Namespace = namespace
	a.Flags["namespace"], a.Flags["grpc-expander-url"] = namespace, "expander.hpc-system.svc:8087"
	a.CloudConfig.ConfigMap, a.CloudConfig.Address = namespace+"/cloud-config", "provider.hpc-system.svc:8086"
	f.Namespaces = map[string]map[string]string{namespace: {"kubernetes.io/metadata.name": namespace}}
	secrets := map[string]*check.Secret{}
	for key, secret := range f.Secrets {
		secrets[strings.Replace(key, check.Namespace, namespace, 1)] = secret
	}
	f.Secrets = secrets
	f.Services = map[string][]corev1.ServicePort{
		namespace + "/provider": f.Services[check.Namespace+"/provider"], namespace + "/expander": f.Services[check.Namespace+"/expander"],
	}
	f.NetworkPolicies[0].Namespace = namespace
}

// TestFind has a row for each kind of finding that TestCheck does not plant in a cluster.
func TestFind(t *testing.T) {
	t.Parallel()
	s := shipped(t)
	autoscaler := func(change func(*check.Autoscaler)) func(*check.Facts) {
		return func(f *check.Facts) { change(&f.Autoscalers[0]) }
	}
	flag := func(name, value string) func(*check.Facts) {
		return autoscaler(func(a *check.Autoscaler) { a.Flags[name] = value })
	}
	for name, row := range map[string]struct {
		change func(*check.Facts)
		want   []string
	}{
		"sound":             {func(*check.Facts) {}, nil},
		"an old Kubernetes": {func(f *check.Facts) { f.Kubernetes = "v1.29.3-eks-1" }, []string{"Error KubernetesTooOld"}},
		"no Flux Operator": {func(f *check.Facts) {
			delete(f.Served, schema.GroupVersionResource{Group: "flux-framework.org", Version: "v1alpha2", Resource: "miniclusters"})
		}, []string{"Error FluxOperatorMissing"}},
		"a definition that is not served": {func(f *check.Facts) {
			delete(f.Served, v1alpha1.GroupVersion.WithResource("poolmachines"))
		}, []string{"Error DefinitionNotServed"}},
		"a controller that is not Ready": {func(f *check.Facts) {
			f.Controller[0].Ready, f.Controller[0].Waits = false, "ImagePullBackOff: image"
		}, []string{"Error ProgramNotReady", "Warning ProgramNotReady"}},
		"two images": {
			func(f *check.Facts) { f.Controller[0].Image = "ensemble-autoscaler:v2" }, []string{"Warning ImagesDiffer"},
		},
		"no Cluster Autoscaler":       {func(f *check.Facts) { f.Autoscalers = nil }, []string{"Error AutoscalerMissing"}},
		"that of another cloud alone": {flag("cloud-provider", "aws"), []string{"Error AutoscalerMissing"}},
		"no Cluster Autoscaler, and none is needed": {func(f *check.Facts) {
			f.Autoscalers, f.Pools = nil, []v1alpha1.NodePool{{Spec: v1alpha1.NodePoolSpec{Autoscaler: v1alpha1.AutoscalerNone}}}
		}, nil},
		"one of another cloud beside it": {func(f *check.Facts) {
			other := f.Autoscalers[0]
			other.Owner, other.Flags = "other", check.Flags{"cloud-provider": "aws"}
			f.Autoscalers = append(f.Autoscalers, other)
		}, nil},
		"replicas without a lease": {func(f *check.Facts) {
			f.Autoscalers[0].Flags["leader-elect"] = "false"
			f.Autoscalers = append(f.Autoscalers, f.Autoscalers[0])
		}, []string{"Error SecondAutoscaler"}},
		"replicas with a lease": {func(f *check.Facts) { f.Autoscalers = append(f.Autoscalers, f.Autoscalers[0]) }, nil},
		"nodes of Karpenter": {func(f *check.Facts) {
			f.ForeignNodes = map[string][]string{"karpenter.sh/nodepool": {"n"}}
		}, []string{"Error SecondAutoscaler"}},
		"an old Cluster Autoscaler": {
			autoscaler(func(a *check.Autoscaler) { a.Image = "registry:5000/cluster-autoscaler:v1.29.4" }), []string{"Error AutoscalerTooOld"},
		},
		"enforcement switched off": {flag("enforce-node-group-min-size", "false"), []string{"Error MinSizeNotEnforced"}},
		"another expander":         {flag("expander", "priority"), []string{"Warning ExpanderNotGRPC"}},
		"an expander elsewhere":    {flag("grpc-expander-url", "expander.elsewhere.svc:8087"), []string{"Error ExpanderUnreachable"}},
		"an expander without TLS":  {flag("grpc-expander-cert", ""), []string{"Error ExpanderUnreachable"}},
		"a long interval":          {flag("scan-interval", "2m"), []string{"Warning IntervalTooLong"}},
		"the default of backoff": {autoscaler(func(a *check.Autoscaler) {
			delete(a.Flags, "initial-node-group-backoff-duration")
		}), []string{"Warning IntervalTooLong"}},
		"a pool with more time than Cluster Autoscaler has": {func(f *check.Facts) {
			f.Pools = []v1alpha1.NodePool{{Spec: v1alpha1.NodePoolSpec{ProvisionTimeout: metav1.Duration{Duration: time.Hour}}}}
		}, []string{"Warning ProvisionTimeoutTooLong"}},
		"no cloud-config": {flag("cloud-config", ""), []string{"Error CloudConfigWrong"}},
		"an address elsewhere": {
			autoscaler(func(a *check.Autoscaler) { a.CloudConfig.Address = "localhost:8086" }), []string{"Error CloudConfigWrong"},
		},
		"no client certificate":  {autoscaler(func(a *check.Autoscaler) { a.CloudConfig.Cert = "" }), []string{"Error CloudConfigWrong"}},
		"one that does not run":  {autoscaler(func(a *check.Autoscaler) { a.Ready = false }), []string{"Error AutoscalerNotReady"}},
		"a label of another app": {autoscaler(func(a *check.Autoscaler) { a.Labels = nil }), []string{"Error NotAdmitted"}},
		"another namespace":      {autoscaler(func(a *check.Autoscaler) { a.Namespace = "kube-system" }), []string{"Error NotAdmitted"}},
		"no NetworkPolicy": {func(f *check.Facts) {
			f.NetworkPolicies, f.Autoscalers[0].Labels = nil, nil
		}, nil},
		"a Service with another port than Cluster Autoscaler calls": {func(f *check.Facts) {
			f.Services[check.Namespace+"/provider"][0].Port = 9000
		}, []string{"Error CloudConfigWrong"}},
		"another port, which Cluster Autoscaler calls": {func(f *check.Facts) {
			f.Services[check.Namespace+"/provider"][0].Port = 9000
			f.Autoscalers[0].CloudConfig.Address = "provider.ensemble-autoscaler-system.svc:9000"
		}, nil},
		"an expander with another port than Cluster Autoscaler calls": {func(f *check.Facts) {
			f.Services[check.Namespace+"/expander"][0].Port = 9000
		}, []string{"Error ExpanderUnreachable"}},
		"a port of the pods that no policy opens": {func(f *check.Facts) {
			f.Provider[0].Ports = append(f.Provider[0].Ports, corev1.ContainerPort{Name: "other", ContainerPort: 9000})
			f.Services[check.Namespace+"/provider"][0].TargetPort = intstr.FromInt32(9000)
		}, []string{"Error NotAdmitted"}},
		"a policy that opens the port by its number": {func(f *check.Facts) {
			f.Provider[0].Ports = []corev1.ContainerPort{{Name: "grpc", ContainerPort: 9000}, {Name: "expander", ContainerPort: 9001}}
			first, last := intstr.FromInt32(9000), int32(9001)
			f.NetworkPolicies[0].Spec.Ingress[0].Ports = []networkingv1.NetworkPolicyPort{{Port: &first, EndPort: &last}}
		}, nil},
		"a policy that opens one of the ports alone": {func(f *check.Facts) {
			f.NetworkPolicies[0].Spec.Ingress[0].Ports = f.NetworkPolicies[0].Spec.Ingress[0].Ports[:1]
		}, []string{"Error NotAdmitted"}},
		"no expander, whose port no policy opens": {func(f *check.Facts) {
			f.NetworkPolicies[0].Spec.Ingress[0].Ports = f.NetworkPolicies[0].Spec.Ingress[0].Ports[:1]
			f.Autoscalers[0].Flags["expander"] = "priority"
		}, []string{"Warning ExpanderNotGRPC"}},
		"no Service": {func(f *check.Facts) {
			delete(f.Services, check.Namespace+"/provider")
		}, []string{"Error ServiceMissing"}},
		"Services that may not be read": {func(f *check.Facts) {
			f.Services = nil
			f.Unknown = []check.Unknown{{Gap: cluster.Gap{Verb: "get", Resource: "services", Namespace: check.Namespace}}}
		}, nil},
		"webhooks that do not answer": {func(f *check.Facts) {
			f.Uncalled = []check.Uncalled{{Webhook: nodePoolWebhook, Cause: "dial tcp 10.0.0.1:443: connect: connection refused"}}
		}, []string{"Error WebhookUnreachable"}},
		"webhooks that show a certificate for another name": {func(f *check.Facts) {
			f.Uncalled = []check.Uncalled{{
				Webhook: nodePoolWebhook, Cause: "tls: failed to verify certificate: x509: certificate is valid for localhost, not webhook",
			}}
		}, []string{"Error WebhookNotTrusted"}},
		"a webhook of another program that does not answer": {func(f *check.Facts) {
			f.Uncalled = []check.Uncalled{{Webhook: "pods.example.com", Cause: "EOF"}}
		}, nil},
		"objects that may not be created as a trial": {func(f *check.Facts) {
			f.Unknown = []check.Unknown{{Gap: cluster.Gap{Verb: "create", Resource: "pods", Namespace: check.Namespace}}}
			f.Autoscalers[0].Labels = nil
		}, []string{"Error NotAdmitted"}},
		"a certificate that ends soon": {func(f *check.Facts) {
			f.Secrets[check.Namespace+"/ensemble-autoscaler-controller-tls"].Certificate[0].NotAfter = noon.Add(24 * time.Hour)
		}, []string{"Warning CertificateExpiresSoon"}},
		"a certificate of tomorrow": {func(f *check.Facts) {
			f.Secrets[check.Namespace+"/ensemble-autoscaler-controller-tls"].Certificate[0].NotBefore = noon.Add(time.Hour)
		}, []string{"Error CertificateNotYetValid"}},
		"another namespace for all": {moved, nil},
		"another namespace for the programs alone": {func(f *check.Facts) {
			was := f.Autoscalers[0]
			was.Flags, was.CloudConfig = flagsOfExample(), new(*was.CloudConfig)
			moved(f)
			f.Autoscalers[0] = was
		}, []string{"Error ExpanderUnreachable", "Error CloudConfigWrong", "Error NotAdmitted"}},
		"certificates of a Secret with another name": {func(f *check.Facts) {
			key := check.Namespace + "/ensemble-autoscaler-provider-tls"
			f.Provider[0].TLSSecret, f.Secrets[check.Namespace+"/mine"] = "mine", f.Secrets[key]
			delete(f.Secrets, key)
		}, nil},
		"a Secret that is mounted and does not exist": {
			func(f *check.Facts) { f.Provider[0].TLSSecret = "mine" }, []string{"Error SecretMissing"},
		},
		"certificates of files that are in no Secret": {func(f *check.Facts) {
			f.Provider[0].TLSSecret = ""
			delete(f.Secrets, check.Namespace+"/ensemble-autoscaler-provider-tls")
		}, nil},
		"a Secret that a flag names": {func(f *check.Facts) {
			f.Controller[0].Flags["tls-secret"] = "mine"
		}, []string{"Error SecretMissing"}},
		"Secrets whose names are not known": {func(f *check.Facts) {
			f.Provider, f.Controller, f.Secrets = nil, nil, nil
			f.Unknown = []check.Unknown{{Gap: cluster.Gap{Verb: "list", Resource: "pods", Namespace: check.Namespace}}}
		}, nil},
		"an empty Secret": {func(f *check.Facts) {
			f.Secrets[check.Namespace+"/ensemble-autoscaler-controller-tls"].Certificate = nil
		}, []string{"Error CertificateMissing"}},
		"a certificate that it has not read": {func(f *check.Facts) {
			delete(f.Provider[0].Flags, "tls-cert-file")
			client := *f.Secrets[check.Namespace+"/ensemble-autoscaler-provider-tls"]
			f.Secrets[check.Namespace+"/cluster-autoscaler-provider-tls"] = &client
			issued := *client.Certificate[0]
			issued.NotBefore = noon.Add(-24*time.Hour - time.Minute)
			client.Certificate = check.Certificates{&issued}
			f.Autoscalers[0].Restarts, f.Autoscalers[0].Secrets = false, []string{"cluster-autoscaler-provider-tls"}
			// Who trusts whom is another matter: nobody does here.
		}, []string{"Error CertificateNotTrusted", "Error CertificateNotTrusted", "Error ClientNotNamed", "Warning CertificateNotRead"}},
		"a webhook that is missing": {func(f *check.Facts) {
			f.Webhooks = slices.DeleteFunc(f.Webhooks, func(w check.Webhook) bool { return strings.HasPrefix(w.Name, "sizes.") })
		}, []string{"Error WebhookMissing"}},
		"no webhooks of Jobs, which are not managed": {func(f *check.Facts) {
			f.Webhooks = slices.DeleteFunc(f.Webhooks, func(w check.Webhook) bool { return strings.HasPrefix(w.Name, "jobs.") })
		}, nil},
		"no webhooks of Jobs, which are managed": {func(f *check.Facts) {
			f.Controller[0].Flags["kinds"] = "MiniCluster,Job"
			f.Webhooks = slices.DeleteFunc(f.Webhooks, func(w check.Webhook) bool { return strings.HasPrefix(w.Name, "jobs.") })
			f.Policies = slices.DeleteFunc(f.Policies, func(p check.Policy) bool { return p.Name == "ensemble-autoscaler-controller-jobs" })
		}, []string{"Error WebhookMissing", "Error WebhookMissing", "Error PolicyMissing"}},
		"members of Jobs, which are not managed": {func(f *check.Facts) {
			f.Members = map[string][]string{"Job": {"default/job.a", "default/job.b"}, "MiniCluster": {"default/demo"}}
		}, []string{"Error KindNotManaged"}},
		"members of Jobs, which are managed": {func(f *check.Facts) {
			f.Controller[0].Flags["kinds"] = "MiniCluster,Job"
			f.Members = map[string][]string{"Job": {"default/job.a"}}
		}, nil},
		"no webhooks of JobSets, which are not managed": {func(f *check.Facts) {
			f.Webhooks = slices.DeleteFunc(f.Webhooks, func(w check.Webhook) bool { return strings.HasPrefix(w.Name, "jobsets.") })
		}, nil},
		"a policy that denies nothing": {func(f *check.Facts) {
			for i := range f.Policies {
				if f.Policies[i].Kind == "ValidatingAdmissionPolicyBinding" && f.Policies[i].Name == "ensemble-autoscaler-kubelets" {
					f.Policies[i].Denies = false
				}
			}
		}, []string{"Warning PolicyDeniesNothing"}},
		"policies that are not served, where the webhook that does the same may be": {func(f *check.Facts) {
			delete(
				f.Served, schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingadmissionpolicies"},
			)
			f.Policies = slices.DeleteFunc(f.Policies, func(p check.Policy) bool { return strings.HasPrefix(p.Kind, "Mutating") })
			f.Webhooks = nil
			f.Unknown = []check.Unknown{{Gap: cluster.Gap{Verb: "get", Resource: "mutatingwebhookconfigurations.admissionregistration.k8s.io"}}}
		}, nil},
		"a policy that is not installed, where webhooks may not be read": {func(f *check.Facts) {
			f.Policies = slices.DeleteFunc(f.Policies, func(p check.Policy) bool { return strings.HasPrefix(p.Kind, "Mutating") })
			f.Webhooks = nil
			f.Unknown = []check.Unknown{{Gap: cluster.Gap{Verb: "get", Resource: "mutatingwebhookconfigurations.admissionregistration.k8s.io"}}}
		}, nil},
		"policies of another part": {func(f *check.Facts) { delete(f.Provider[0].Flags, "kwok") }, nil},
		"machines that nobody makes": {func(f *check.Facts) {
			f.Pools = []v1alpha1.NodePool{{Spec: v1alpha1.NodePoolSpec{Machines: v1alpha1.MachinesSpec{Karpenter: &v1alpha1.KarpenterMachines{}}}}}
		}, []string{"Error BackendMissing"}},
		"a right that is missing": {func(f *check.Facts) {
			f.Rights = []check.Right{{Program: "controller", Verb: "list", Resource: "nodes"}}
		}, []string{"Error RightsMissing"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := sound(s)
			row.change(f)
			var got []string
			for _, finding := range check.Find(f, s).Findings {
				got = append(got, string(finding.Severity)+" "+finding.Reason)
				if finding.Object == "" || finding.Message == "" || finding.Remedy == "" {
					t.Errorf("%+v does not say all", finding)
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestShipped: what is compared with a cluster are all definitions, policies and webhooks that are shipped, and rights of both programs.
func TestShipped(t *testing.T) {
	t.Parallel()
	s := shipped(t)
	programs := map[string]int{}
	for _, r := range s.Rights {
		programs[r.Program]++
	}
	if len(s.Definitions) != 6 || len(s.Policies) < 20 || len(s.Webhooks) != 7 || programs["provider"] < 10 || programs["controller"] < 10 {
		t.Errorf(
			"%d definitions, %d policies, %d configurations of webhooks, rights %v", len(s.Definitions), len(s.Policies), len(s.Webhooks),
			programs,
		)
	}
}

func TestParseFlags(t *testing.T) {
	t.Parallel()
	got := check.ParseFlags([]string{"/cluster-autoscaler"}, []string{"--v=4", "-x", "--expander", "grpc", "--enforce-node-group-min-size",
		"--cluster-api=a", "--cluster-api", "b,c"})
	want := check.Flags{"cluster-api": "a,b,c", "v": "4", "x": "true", "expander": "grpc", "enforce-node-group-min-size": "true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := flagsOfExample(); got.Value("file", "") != "" || !got.Has("enforce-node-group-min-size") {
		t.Errorf("%v", got)
	}
}

// TestWrite prints a report.
func TestWrite(t *testing.T) {
	t.Parallel()
	s := shipped(t)
	f := sound(s)
	f.Autoscalers[0].Flags["enforce-node-group-min-size"] = "false"
	var out strings.Builder
	if err := check.Write(&out, check.Find(f, s), func(_ check.Severity, text string) string { return text }); err != nil {
		t.Fatal(err)
	}
	want := `ERROR Pod ensemble-autoscaler-system/cluster-autoscaler: MinSizeNotEnforced
    it runs without --enforce-node-group-min-size: it never raises a group to the floor, and nothing that is reserved is bought
    Remedy: add --enforce-node-group-min-size; see examples/cluster-autoscaler/deployment.yaml
Checked versions, definitions, programs, Cluster Autoscaler, certificates, network policies, webhooks, admission policies, rights, node pools, members: 1 error, 0 warnings
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
