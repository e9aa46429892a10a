package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// The names of the components, as processes and as binaries.
const (
	Etcd                  = "etcd"
	KubeAPIServer         = "kube-apiserver"
	KubeScheduler         = "kube-scheduler"
	KubeControllerManager = "kube-controller-manager"
	KwokController        = "kwok"
)

const (
	// NodeAnnotation marks the Nodes that kwok looks after, with the value [NodeAnnotationValue]. Such a node
	// becomes Ready at once and keeps the capacity, labels and taints that its creator gave it.
	NodeAnnotation = "kwok.x-k8s.io/node"
	// NodeAnnotationValue is the value of [NodeAnnotation].
	NodeAnnotationValue = "fake"

	// RunSecondsAnnotation on a pod ends it that many seconds after its start (to the second). Without it a
	// pod runs until it is deleted.
	RunSecondsAnnotation = "test.ensemble-autoscaler/run-seconds"
	// ExitCodeAnnotation on a pod with RunSecondsAnnotation is the exit code of its containers, 0 by default;
	// with any other the pod fails.
	ExitCodeAnnotation = "test.ensemble-autoscaler/exit-code"
)

const (
	serviceNetwork = "10.96.0.0/16"
	// nodeLease is the kubelet's default.
	nodeLease = 40 * time.Second
	// requestsPerSecond is far above what a test needs: tests are to measure us, not a client's rate limit.
	requestsPerSecond = 1000

	kwokUser = "kwok"
)

// defaultOmittedControllers cannot work here: endpoints of pods on loopback addresses are refused by the API
// server's validation.
func defaultOmittedControllers() []string {
	return []string{"endpoints-controller", "endpointslice-controller", "endpointslice-mirroring-controller"}
}

// kwokConfiguration holds kwok's options and the stages in the lives of nodes and pods.
//
//go:embed kwokconfig/*.yaml
var kwokConfiguration embed.FS

// writeKwokConfiguration writes all of it into one file.
func writeKwokConfiguration(path string, podsAtOnce int) error {
	files, err := fs.Glob(kwokConfiguration, "kwokconfig/*.yaml")
	if err != nil {
		return err
	}
	var documents []string
	for _, file := range files {
		content, err := kwokConfiguration.ReadFile(file)
		if err != nil {
			return err
		}
		documents = append(documents, string(content))
	}
	text := strings.Join(documents, "\n---\n")
	if podsAtOnce > 1 {
		const one = "podPlayStageParallelism: 1\n"
		if !strings.Contains(text, one) {
			return fmt.Errorf("the configuration of kwok has no line %q", one)
		}
		text = strings.Replace(text, one, fmt.Sprintf("podPlayStageParallelism: %d\n", podsAtOnce), 1)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// component is a part of the control plane: a process and the question whether it serves.
type component struct {
	process *Process
	// health is the address that answers 200 once the component serves.
	health string
}

// etcdCommand stores without syncing to disk: the data need not survive a crash of the machine.
func (c *ControlPlane) etcdCommand() *exec.Cmd {
	return c.command(Etcd,
		"--name=etcd",
		"--data-dir="+filepath.Join(c.directory, "etcd"),
		"--listen-client-urls="+c.EtcdURL(),
		"--advertise-client-urls="+c.EtcdURL(),
		// There are no peers; port 0 is any free one.
		"--listen-peer-urls=http://127.0.0.1:0",
		"--unsafe-no-fsync",
		"--log-level=warn",
	)
}

func (c *ControlPlane) apiServerCommand(extra []string) *exec.Cmd {
	arguments := []string{
		"--etcd-servers=" + c.EtcdURL(),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports.apiServer),
		"--tls-cert-file=" + c.file("pki", KubeAPIServer+".crt"),
		"--tls-private-key-file=" + c.file("pki", KubeAPIServer+".key"),
		"--client-ca-file=" + c.file("pki", "ca.crt"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + c.file("pki", "service-account.key"),
		"--service-account-key-file=" + c.file("pki", "service-account.pub"),
		"--service-cluster-ip-range=" + serviceNetwork,
		// The endpoints of the "kubernetes" Service would be loopback addresses, which validation refuses.
		"--endpoint-reconciler-type=none",
		"--allow-privileged",
		"--profiling=false",
	}
	if c.parts&ControllerManager == 0 {
		// Nobody creates the default ServiceAccounts that this plugin asks for.
		arguments = append(arguments, "--disable-admission-plugins=ServiceAccount")
	}
	command := c.command(KubeAPIServer, append(arguments, extra...)...)
	// It has little in memory here, and others need the cores: it collects garbage when its memory has grown to five times
	// what is in use, not to twice.
	command.Env = append(command.Env, "GOGC=400")
	return command
}

func (c *ControlPlane) schedulerCommand() *exec.Cmd {
	return c.command(KubeScheduler, append(c.servingArguments(KubeScheduler, c.ports.scheduler),
		"--leader-elect=false",
		"--kube-api-qps="+strconv.Itoa(requestsPerSecond),
		"--kube-api-burst="+strconv.Itoa(requestsPerSecond),
	)...)
}

func (c *ControlPlane) controllerManagerCommand(omit []string) *exec.Cmd {
	controllers := []string{"*"}
	for _, name := range append(defaultOmittedControllers(), omit...) {
		controllers = append(controllers, "-"+name)
	}
	return c.command(KubeControllerManager, append(c.servingArguments(KubeControllerManager, c.ports.controllerManager),
		"--leader-elect=false",
		"--kube-api-qps="+strconv.Itoa(requestsPerSecond),
		"--kube-api-burst="+strconv.Itoa(requestsPerSecond),
		"--use-service-account-credentials",
		"--service-account-private-key-file="+c.file("pki", "service-account.key"),
		"--root-ca-file="+c.file("pki", "ca.crt"),
		"--controllers="+strings.Join(controllers, ","),
	)...)
}

// servingArguments are the flags that scheduler and controller manager share.
func (c *ControlPlane) servingArguments(name string, port int) []string {
	kubeconfig := c.file("kubeconfig", name)
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		// They know the authority by themselves: there is no front proxy, whose own authority they would look
		// up over and over.
		"--authentication-skip-lookup",
		"--client-ca-file=" + c.file("pki", "ca.crt"),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port),
		"--tls-cert-file=" + c.file("pki", name+".crt"),
		"--tls-private-key-file=" + c.file("pki", name+".key"),
		"--profiling=false",
	}
}

func (c *ControlPlane) kwokCommand() *exec.Cmd {
	return c.command(KwokController,
		"--kubeconfig="+c.file("kubeconfig", KwokController),
		"--config="+c.file("kwok", "kwok.yaml"),
		"--manage-nodes-with-annotation-selector="+NodeAnnotation+"="+NodeAnnotationValue,
		"--node-ip=127.0.0.1",
		"--node-lease-duration-seconds="+strconv.Itoa(int(c.nodeLease.Seconds())),
		"--server-address=127.0.0.1:"+strconv.Itoa(c.ports.kwok),
	)
}

// kwokNetworks gives each start of kwok a part of its own of the pod network. A kwok that is started again
// does not know in time which addresses are taken, and would give them to a second pod.
func kwokNetworks(podNetwork *net.IPNet) func(*exec.Cmd) error {
	const (
		starts = 8
		bits   = 19 // of 32, an eighth of the pod network: 8192 addresses
	)
	started := 0
	return func(command *exec.Cmd) error {
		if started == starts {
			return fmt.Errorf("it was started %d times, and there are no further addresses for pods in %s", starts, podNetwork)
		}
		first := podNetwork.IP.To4()
		part := net.IPNet{IP: net.IPv4(first[0], first[1], byte(started*256/starts), 0), Mask: net.CIDRMask(bits, 32)}
		started++
		command.Args = append(command.Args, "--cidr="+part.String())
		return nil
	}
}

// command is a component's command line. The component sees none of the user's environment, in which
// variables such as ETCD_NAME or a kwok.yaml in the home directory would configure it.
func (c *ControlPlane) command(name string, arguments ...string) *exec.Cmd {
	command := exec.Command(c.binaries.path(name), arguments...)
	command.Dir = c.directory
	command.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + c.file("home"),
		"TMPDIR=" + c.file("tmp"),
	}
	return command
}

// EtcdURL is where etcd serves, without TLS.
func (c *ControlPlane) EtcdURL() string { return fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcd) }

// file is a path in the directory of the control plane.
func (c *ControlPlane) file(elements ...string) string {
	return filepath.Join(append([]string{c.directory}, elements...)...)
}

// writeFiles makes the directories, certificates, keys, kubeconfigs and settings that the components read.
func (c *ControlPlane) writeFiles() error {
	for _, directory := range []string{"pki", "kubeconfig", "kwok", "home", "tmp"} {
		if err := os.MkdirAll(c.file(directory), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(c.file("pki", "ca.crt"), c.authority.pem, 0o644); err != nil {
		return err
	}
	private, public, err := serviceAccountKeys()
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.file("pki", "service-account.key"), private, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(c.file("pki", "service-account.pub"), public, 0o644); err != nil {
		return err
	}
	for _, name := range []string{KubeAPIServer, KubeScheduler, KubeControllerManager} {
		pair, err := c.authority.server(name, []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc"})
		if err != nil {
			return err
		}
		if err := pair.write(c.file("pki", name+".crt"), c.file("pki", name+".key")); err != nil {
			return err
		}
	}
	// The first two users have their roles from the API server's bootstrap policy, kwok has ours.
	for name, user := range map[string]string{
		KubeScheduler:         "system:kube-scheduler",
		KubeControllerManager: "system:kube-controller-manager",
		KwokController:        kwokUser,
	} {
		config, err := c.UserConfig(user)
		if err != nil {
			return err
		}
		if err := WriteKubeconfig(c.file("kubeconfig", name), config); err != nil {
			return err
		}
	}
	return writeKwokConfiguration(c.file("kwok", "kwok.yaml"), c.podsAtOnce)
}

// grantKwok gives kwok's user what it needs in the place of kubelets, and nothing else.
func (c *ControlPlane) grantKwok(ctx context.Context) error {
	clients, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return err
	}
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: kwokUser},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch", "delete"}},
			{APIGroups: []string{""}, Resources: []string{"nodes/status", "pods/status"}, Verbs: []string{"patch"}},
			{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "list", "watch", "create", "update"}},
		},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: kwokUser},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: kwokUser},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: kwokUser}},
	}
	if _, err := clients.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create ClusterRole %s: %w", role.Name, err)
	}
	if _, err := clients.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create ClusterRoleBinding %s: %w", binding.Name, err)
	}
	return nil
}

// dropNodeLeases lets a new kwok look after the nodes of a dead one at once. It would wait until the leases of
// its predecessor have run out, as it must when that is only slow.
func (c *ControlPlane) dropNodeLeases(ctx context.Context) error {
	clients, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return err
	}
	leases := clients.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	if err := leases.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return fmt.Errorf("delete the leases of the nodes: %w", err)
	}
	return nil
}

// defaultServiceAccountExists waits for the ServiceAccount without which no pod can be created in the
// namespace "default". The controller manager makes it when its controllers have started.
func (c *ControlPlane) defaultServiceAccountExists(ctx context.Context) error {
	clients, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return err
	}
	return c.until(ctx, KubeControllerManager, "make the default ServiceAccount", func(ctx context.Context) error {
		_, err := clients.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return errors.New("there is none yet")
		}
		return err
	})
}

// serves waits until the component answers its health check.
func (c *ControlPlane) serves(ctx context.Context, name string) error {
	roots := x509.NewCertPool()
	roots.AddCert(c.authority.certificate)
	transport := &http.Transport{
		DialContext:       (&net.Dialer{Timeout: time.Second}).DialContext,
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}
	probe := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	return c.until(ctx, name, "serve", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.components[name].health, nil)
		if err != nil {
			return err
		}
		response, err := probe.Do(request)
		if err != nil {
			return err
		}
		if err := response.Body.Close(); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", request.URL, response.Status)
		}
		return nil
	})
}

// until repeats the check until it passes, the context ends, or the component's process dies.
func (c *ControlPlane) until(ctx context.Context, name, verb string, check func(context.Context) error) error {
	const interval = 50 * time.Millisecond
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	process := c.components[name].process
	done := process.Done()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("%s ended before it could %s (%w); its last words in %s:\n%s",
				name, verb, process.Wait(ctx), process.LogFile(), tail(process.LogFile()))
		case <-ctx.Done():
			return fmt.Errorf("%s did not %s in time (%w): %w", name, verb, ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// tail is the end of a log file, for an error message.
func tail(path string) string {
	const most = 2000 // bytes
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(content) > most {
		content = content[len(content)-most:]
	}
	return string(content)
}
