package install

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/helm"
)

const (
	// version is that of the release that is made here.
	version = "v9.8.7-test.1"
	// epoch is its time, in seconds.
	epoch = 1_700_000_000
)

// file is one of an archive.
type file struct {
	content []byte
	mode    int64
}

// TestDist makes a release twice, as two users would, and finds the same files, bit by bit. All ways to install it bring the same, with the
// image of this version; the image runs; the SBOM has what the programs are made of.
//
// The image is that of the platform of the test alone: to compile for another one, twice, would take minutes of each run, and an image of
// it could not be run here. make dist makes all of PLATFORMS.
func TestDist(t *testing.T) {
	t.Parallel()
	tool := filepath.Join(t.TempDir(), "dist")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", tool, ".")
	build.Dir = filepath.Join("..", "..", "harness", "tools", "dist")
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build dist: %v: %s", err, said)
	}
	files := dist(t, tool, "../../..", "TZ=UTC")
	// The repository by another path, in another place of the world, and the programs compiled for an environment of the user's.
	linked := filepath.Join(t.TempDir(), "another", "checkout")
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Dir(linked), 0o700), os.Symlink(root, linked)); err != nil {
		t.Fatal(err)
	}
	again := dist(t, tool, linked, "TZ=Asia/Tokyo", "GOFLAGS=-tags=example", "GOAMD64=v2", "LANG=C")
	if want, got := slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(again)); !slices.Equal(want, got) {
		t.Fatalf("the second time there is %q, the first time there was %q", got, want)
	}
	for name, content := range files {
		if !bytes.Equal(content, again[name]) {
			t.Errorf("%s is another one the second time", name)
		}
	}

	archive, image, sbom := "ensemble-autoscaler-9.8.7-test.1.tgz", "ensemble-autoscaler-"+version+"-image.tar",
		"ensemble-autoscaler-"+version+"-sbom.cdx.json"
	want := []string{"SHA256SUMS", archive, image, sbom, "install-before-1.36.yaml", "install.yaml"}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Fatalf("there is %q, not %q", got, want)
	}
	var sums strings.Builder
	for _, name := range want[1:] {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(files[name]), name)
	}
	if sums.String() != string(files["SHA256SUMS"]) {
		t.Errorf("SHA256SUMS has\n%s\nand it is\n%s", files["SHA256SUMS"], sums.String())
	}
	checkRefused(t, tool)
	checkInstalls(t, files, archive)
	checkImage(t, files[image])
	checkSBOM(t, files[sbom])
}

// dist makes a release for this platform and returns its files.
func dist(t *testing.T, tool, root string, env ...string) map[string][]byte {
	t.Helper()
	output := filepath.Join(t.TempDir(), "dist")
	command := exec.CommandContext(t.Context(), tool,
		"-root", root, "-output", output, "-version", version, "-revision", "0123", "-platforms", "linux/"+runtime.GOARCH)
	command.Env = slices.Concat(os.Environ(), []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch)}, env)
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	entries, err := os.ReadDir(output)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		if files[entry.Name()], err = os.ReadFile(filepath.Join(output, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// checkRefused calls the tool with what it cannot make a release of. It says so before it builds anything.
func checkRefused(t *testing.T, tool string) {
	t.Helper()
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const time = "SOURCE_DATE_EPOCH=1"
	for _, row := range []struct {
		says, env string
		arguments []string
	}{
		{"vMAJOR.MINOR.PATCH", time, []string{"-version=v1.2", "-output=" + other}},
		{"may have no +", time, []string{"-version=v1.2.3+build", "-output=" + other}},
		{"the time of the commit in seconds", "SOURCE_DATE_EPOCH=", []string{"-version=v1.2.3", "-output=" + other}},
		{"as in linux/amd64", time, []string{"-version=v1.2.3", "-output=" + other, "-platforms=amd64"}},
		{"-output is empty", time, []string{"-version=v1.2.3"}},
		{"which has other files", time, []string{"-version=0123abc", "-output=" + other}},
	} {
		command := exec.CommandContext(t.Context(), tool, append([]string{"-root=../../.."}, row.arguments...)...)
		command.Env = append(os.Environ(), row.env)
		said, err := command.CombinedOutput()
		if err == nil || !strings.Contains(string(said), row.says) {
			t.Errorf("%q: it does not say %q: %v: %s", row.arguments, row.says, err, said)
		}
	}
	if _, err := os.Stat(filepath.Join(other, "thesis.tex")); err != nil {
		t.Error(err)
	}
}

// checkInstalls compares the files that install everything with kustomize, and with the chart of the release.
func checkInstalls(t *testing.T, files map[string][]byte, archive string) {
	t.Helper()
	h := helm.New(t, "")
	chart := filepath.Join(t.TempDir(), archive)
	if err := os.WriteFile(chart, files[archive], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ directory, kubernetes string }{
		"install.yaml":             {manifests, "1.36.0"},
		"install-before-1.36.yaml": {manifests + "/overlays/pod-webhook", "1.35.0"},
	} {
		got := objects(t, files[name])
		var images []string
		for line := range strings.Lines(string(files[name])) {
			if _, image, is := strings.Cut(line, " image: "); is {
				images = append(images, strings.TrimSpace(image))
			}
		}
		if !slices.Equal(images, []string{"ensemble-autoscaler:" + version, "ensemble-autoscaler:" + version}) {
			t.Errorf("%s has the images %q", name, images)
		}
		rendered, err := h.Run(t.Context(), append([]string{
			"template", "release", chart, "--namespace", namespace, "--kube-version", row.kubernetes,
		}, asKustomize...)...)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(got, objects(t, []byte(rendered))); diff != "" {
			t.Errorf("%s and the chart (-%[1]s +chart):\n%s", name, diff)
		}
		want := kustomize(t, row.directory)
		for name := range want {
			// What they say is compared by way of the chart, but for the image.
			if got[name] == nil {
				t.Errorf("there is no %s", name)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s has %d objects, and kustomize %d", name, len(got), len(want))
		}
	}
	if files, err := unpack(gunzip(t, files[archive])); err != nil || len(files) < 30 {
		t.Errorf("the chart has %d files: %v", len(files), err)
	}
}

// descriptor names a blob of an OCI layout.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

// checkImage reads the layout as an engine does, from its index to the programs, and runs these.
func checkImage(t *testing.T, archive []byte) {
	t.Helper()
	layout, err := unpack(archive)
	if err != nil {
		t.Fatal(err)
	}
	blob := func(d descriptor, into any) []byte {
		content := layout[path.Join("blobs", strings.Replace(d.Digest, ":", "/", 1))].content
		if sum := fmt.Sprintf("sha256:%x", sha256.Sum256(content)); sum != d.Digest || len(content) != d.Size {
			t.Fatalf("the blob %s has the digest %s and %d bytes, not %d", d.Digest, sum, len(content), d.Size)
		}
		if into != nil {
			if err := json.Unmarshal(content, into); err != nil {
				t.Fatal(err)
			}
		}
		return content
	}
	var index, images struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(layout["index.json"].content, &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("index.json has %d manifests (%v)", len(index.Manifests), err)
	}
	if name := index.Manifests[0].Annotations["org.opencontainers.image.ref.name"]; name != version {
		t.Errorf("the image is named %q", name)
	}
	blob(index.Manifests[0], &images)
	if len(images.Manifests) != 1 || images.Manifests[0].Platform.OS != "linux" ||
		images.Manifests[0].Platform.Architecture != runtime.GOARCH {
		t.Fatalf("there are the images %+v", images.Manifests)
	}
	var manifest struct {
		Config descriptor   `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	blob(images.Manifests[0], &manifest)
	var config struct {
		Created time.Time `json:"created"`
		Config  struct {
			User   string            `json:"User"`
			Labels map[string]string `json:"Labels"`
		} `json:"config"`
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	blob(manifest.Config, &config)
	if config.Config.User != "65532:65532" || config.Created.Unix() != epoch ||
		config.Config.Labels["org.opencontainers.image.version"] != version {
		t.Errorf("the image is %+v", config)
	}
	if len(manifest.Layers) != 1 {
		t.Fatalf("the image has %d layers", len(manifest.Layers))
	}
	layer := gunzip(t, blob(manifest.Layers[0], nil))
	if sum := fmt.Sprintf("sha256:%x", sha256.Sum256(layer)); !slices.Equal(config.RootFS.DiffIDs, []string{sum}) {
		t.Errorf("the image has the layers %q, not %s", config.RootFS.DiffIDs, sum)
	}
	files, err := unpack(layer)
	if err != nil {
		t.Fatal(err)
	}
	checkDockerfile(t, config.Config.User, slices.Sorted(maps.Keys(config.Config.Labels)))
	if got, want := slices.Sorted(maps.Keys(files)), []string{
		"LICENSE", "controller", "etc/ssl/certs/ca-certificates.crt", "provider",
	}; !slices.Equal(got, want) {
		t.Fatalf("the image has the files %q", got)
	}
	if bytes.Count(files["etc/ssl/certs/ca-certificates.crt"].content, []byte("BEGIN CERTIFICATE")) < 50 {
		t.Error("the image trusts hardly any authority")
	}
	for _, name := range []string{"provider", "controller"} {
		if files[name].mode != 0o755 {
			t.Errorf("%s has the mode %o", name, files[name].mode)
		}
		program := filepath.Join(t.TempDir(), name)
		if runtime.GOOS != "linux" {
			continue
		}
		// Another process writes it: what this one has open for writing its forks hold open for a moment, and the kernel runs no such file
		// (ETXTBSY).
		write := exec.CommandContext(t.Context(), "sh", "-c", `cat >"$0" && chmod 700 "$0"`, program)
		write.Stdin = bytes.NewReader(files[name].content)
		if out, err := write.CombinedOutput(); err != nil {
			t.Fatalf("write %s: %v: %s", program, err, out)
		}
		if said, err := exec.CommandContext(
			t.Context(), program, "--version",
		).CombinedOutput(); err != nil || !strings.Contains(string(said), version) {
			t.Errorf("%s --version: %v: %s", name, err, said)
		}
	}
}

// checkDockerfile looks in the Dockerfile for what the image has: whom it runs as, its labels, and how the programs are built.
func checkDockerfile(t *testing.T, user string, labels []string) {
	t.Helper()
	text, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	dockerfile := string(text)
	var labelled []string
	for _, found := range regexp.MustCompile(`(org\.opencontainers\.image\.\w+)=`).FindAllStringSubmatch(dockerfile, -1) {
		labelled = append(labelled, found[1])
	}
	slices.Sort(labelled)
	if !slices.Equal(labels, labelled) {
		t.Errorf("the image has the labels %q, and that of the Dockerfile %q", labels, labelled)
	}
	for _, part := range []string{
		"USER " + user + "\n", "COPY LICENSE /\n", "ca-certificates.crt /etc/ssl/certs/\n", "FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS " +
			"build\n",
		`go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}"`, "COPY --from=build /out/provider /out/controller /\n",
	} {
		if !strings.Contains(dockerfile, part) {
			t.Errorf("the Dockerfile does not say %q", part)
		}
	}
	if strings.Contains(dockerfile, ":latest") {
		t.Error("the Dockerfile names an image latest")
	}
}

// checkSBOM looks for modules at the versions of go.mod.
func checkSBOM(t *testing.T, text []byte) {
	t.Helper()
	var sbom struct {
		BOMFormat  string `json:"bomFormat"`
		Metadata   struct{ Component struct{ Version string } }
		Components []struct{ Purl string }
	}
	if err := json.Unmarshal(text, &sbom); err != nil || sbom.BOMFormat != "CycloneDX" || sbom.Metadata.Component.Version != version {
		t.Fatalf("the SBOM is %s of %s (%v)", sbom.BOMFormat, sbom.Metadata.Component.Version, err)
	}
	has := map[string]bool{}
	for _, component := range sbom.Components {
		has[component.Purl] = true
	}
	required, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{
		"sigs.k8s.io/controller-runtime", "google.golang.org/grpc", "k8s.io/client-go", "github.com/go-logr/logr",
	} {
		_, rest, _ := strings.Cut(string(required), "\t"+module+" ")
		line, _, _ := strings.Cut(rest, "\n")
		if purl := "pkg:golang/" + module + "@" + line; line == "" || !has[purl] {
			t.Errorf("the SBOM has no %s among %d", purl, len(has))
		}
	}
	if !has["pkg:golang/std@"+strings.TrimPrefix(runtime.Version(), "go")] {
		t.Errorf("the SBOM does not have Go's own library at %s", runtime.Version())
	}
}

func gunzip(t *testing.T, compressed []byte) []byte {
	t.Helper()
	reader, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// unpack are the files of an archive, all of the time of the release and nobody's.
func unpack(archive []byte) (map[string]file, error) {
	files := map[string]file{}
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if header.ModTime.Unix() != epoch || header.Uid != 0 || header.Gid != 0 || header.Uname != "" {
			return nil, fmt.Errorf("%s is of %v and of user %d %q", header.Name, header.ModTime, header.Uid, header.Uname)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return nil, err
		}
		files[header.Name] = file{content, header.Mode}
	}
}
