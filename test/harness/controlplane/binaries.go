package controlplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// BinariesVariable is the environment variable that names a directory with ready binaries, each under the
// name of its component. Build then builds nothing but the guard.
const BinariesVariable = "CONTROLPLANE_BINARIES"

const (
	kubectlBinary = "kubectl"
	guardBinary   = "guard"
)

// Binaries are the programs of a control plane on disk. They come from [Build].
type Binaries struct {
	directory string // the components, and kubectl where BuildKubectl was called
	guard     string // the path of the guard
}

// Directory holds the components, each under its own name.
func (b Binaries) Directory() string { return b.directory }

func (b Binaries) path(name string) string {
	if name == guardBinary {
		return b.guard
	}
	return filepath.Join(b.directory, name)
}

// components is the directory of the go.mod that all components are built from, in this directory. Of modules that our own go.mod has too
// it requires the same versions, so that what one build has compiled serves the other.
const components = "kubernetes"

// program is a binary to build.
type program struct {
	name   string
	module string // the directory of its go.mod, from this directory
	// importPath is its main package.
	importPath string
	// versionOf is the module in the go.mod whose version the program reports as its own.
	versionOf string
	// usually is how long the first build takes on two cores, for those who wait for it.
	usually time.Duration
}

const (
	kubernetesModule = "k8s.io/kubernetes"
	etcdModule       = "go.etcd.io/etcd/server/v3"
	kwokModule       = "sigs.k8s.io/kwok"
)

// programs are all that a control plane needs, in the order of the build: the later ones profit from what
// the earlier ones have compiled.
func programs() []program {
	return []program{
		{name: Etcd, module: components, importPath: etcdModule, versionOf: etcdModule, usually: 35 * time.Second},
		{
			name: KubeAPIServer, module: components, importPath: kubernetesModule + "/cmd/kube-apiserver", versionOf: kubernetesModule,
			usually: 150 * time.Second,
		},
		{
			name: KubeScheduler, module: components, importPath: kubernetesModule + "/cmd/kube-scheduler", versionOf: kubernetesModule,
			usually: 30 * time.Second,
		},
		{
			name: KubeControllerManager, module: components, importPath: kubernetesModule + "/cmd/kube-controller-manager",
			versionOf: kubernetesModule, usually: 40 * time.Second,
		},
		{name: KwokController, module: components, importPath: kwokModule + "/cmd/kwok", versionOf: kwokModule, usually: 15 * time.Second},
	}
}

// kubectl is for those who ask for it.
func kubectl() program {
	return program{
		name: kubectlBinary, module: components, importPath: kubernetesModule + "/cmd/kubectl", versionOf: kubernetesModule,
		usually: 25 * time.Second,
	}
}

// linkerFlags strip symbols, which no test needs, and stamp the version that `kubectl version` and the
// programs themselves report: built as a dependency they do not know it.
func (p program) linkerFlags(version string) string {
	flags := []string{"-s", "-w"}
	stamp := func(name, value string) { flags = append(flags, "-X", name+"="+value) }
	if p.versionOf == kubernetesModule {
		const variables = "k8s.io/component-base/version."
		parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
		stamp(variables+"gitVersion", version)
		stamp(variables+"gitMajor", parts[0])
		stamp(variables+"gitMinor", parts[1])
		stamp(variables+"gitTreeState", "clean")
	}
	return strings.Join(flags, " ")
}

// requiredVersion reads the version of a module from a go.mod file.
func requiredVersion(goMod []byte, module string) (string, error) {
	line := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(module) + `\s+(v\d+\.\d+\.\S+)`)
	match := line.FindSubmatch(goMod)
	if match == nil {
		return "", fmt.Errorf("go.mod requires no version of %s", module)
	}
	return string(match[1]), nil
}

// sourceDirectory finds this directory on disk: nested modules cannot be embedded in the program.
func sourceDirectory() (string, error) {
	const inRepository = "test/harness/controlplane"
	var tried []string
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		tried = append(tried, filepath.Dir(file))
	}
	// A program built with -trimpath does not know where it came from; it is run within the repository.
	working, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for directory := working; ; directory = filepath.Dir(directory) {
		tried = append(tried, filepath.Join(directory, filepath.FromSlash(inRepository)))
		if directory == filepath.Dir(directory) {
			break
		}
	}
	found := slices.IndexFunc(tried, func(directory string) bool {
		_, err := os.Stat(filepath.Join(directory, "kubernetes", "go.mod"))
		return err == nil
	})
	if found < 0 {
		return "", fmt.Errorf("cannot find %s/kubernetes/go.mod above %s; run this within the repository, or name ready binaries in %s",
			inRepository, working, BinariesVariable)
	}
	return tried[found], nil
}

// readyBinaries checks that the directory has every program.
func readyBinaries(directory string) error {
	var errs []error
	for _, program := range append(programs(), kubectl()) {
		info, err := os.Stat(filepath.Join(directory, program.name))
		switch {
		case err != nil:
			errs = append(errs, err)
		case info.IsDir() || info.Mode()&0o111 == 0:
			errs = append(errs, fmt.Errorf("%s is no executable file", filepath.Join(directory, program.name)))
		}
	}
	return errors.Join(errs...)
}
