package config

import (
	"embed"
	"fmt"
	"io/fs"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

//go:embed crd/*.yaml
var files embed.FS

// CRDs returns the custom resource definitions of Ebb, sorted by file name; each call
// returns fresh copies. It fails only where the files in the binary are broken.
func CRDs() ([]*apiextensions.CustomResourceDefinition, error) {
	names, err := fs.Glob(files, "crd/*.yaml") // sorted
	if err != nil {
		return nil, err
	}
	var crds []*apiextensions.CustomResourceDefinition
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		crd := &apiextensions.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(text, crd); err != nil {
			return nil, fmt.Errorf("config/%s: %w", name, err)
		}
		crds = append(crds, crd)
	}
	return crds, nil
}
