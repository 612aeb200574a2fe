package config

import (
	"embed"
	"fmt"
	"io/fs"
	"path"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

//go:embed crd/*_*.yaml
var files embed.FS

// CRDs returns the custom resource definitions of Ebb, sorted by file name; each call
// returns fresh copies. It fails only where the files in the binary are broken.
func CRDs() ([]*apiextensions.CustomResourceDefinition, error) {
	names, err := CRDFiles()
	if err != nil {
		return nil, err
	}
	var crds []*apiextensions.CustomResourceDefinition
	for _, name := range names {
		text, err := files.ReadFile("crd/" + name)
		if err != nil {
			return nil, err
		}
		crd := &apiextensions.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(text, crd); err != nil {
			return nil, fmt.Errorf("config/crd/%s: %w", name, err)
		}
		crds = append(crds, crd)
	}
	return crds, nil
}

// CRDFiles are the names of their files in config/crd, sorted.
func CRDFiles() ([]string, error) {
	names, err := fs.Glob(files, "crd/*_*.yaml") // GROUP_RESOURCE.yaml
	for i, name := range names {
		names[i] = path.Base(name)
	}
	return names, err
}
