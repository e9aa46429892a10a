package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// writeManifests renders a kustomization of the repository with the image of this release.
func (r *release) writeManifests(w io.Writer, work, kustomization, kubernetes string) error {
	directory, err := os.MkdirTemp(work, "kustomize")
	if err != nil {
		return err
	}
	// Kustomize takes no whole paths, and sees through links.
	if directory, err = filepath.EvalSymlinks(directory); err != nil {
		return err
	}
	resource, err := filepath.Abs(filepath.Join(r.root, filepath.FromSlash(kustomization)))
	if err != nil {
		return err
	}
	if resource, err = filepath.EvalSymlinks(resource); err != nil {
		return err
	}
	if resource, err = filepath.Rel(directory, resource); err != nil {
		return err
	}
	text := fmt.Sprintf("resources: [%q]\nimages: [{name: %s, newTag: %s}]\n", resource, name, r.version)
	if err := os.WriteFile(filepath.Join(directory, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), directory)
	if err != nil {
		return err
	}
	objects, err := rendered.AsYaml()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "# %s %s for Kubernetes %s: kubectl apply --server-side -f\n%s", name, r.version, kubernetes, objects)
	return err
}
