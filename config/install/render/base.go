package render

import (
	"fmt"
	"slices"
	"strings"

	"ebb.dev/ebb/config"
	"ebb.dev/ebb/config/install"
)

// Header of every generated file.
const Header = "# Made by `make generate` from config/install; change it there.\n"

// Files by their path under config/.
type Files map[string][]byte

// Generated are all files under config/ that are made from the objects.
func Generated() (Files, error) {
	files := Files{}
	if err := base(files); err != nil {
		return nil, err
	}
	return files, chart(files)
}

// base is the kustomize base: the default installation, with the images' bare names.
func base(files Files) error {
	stages, err := install.Stages(install.Default())
	if err != nil {
		return err
	}
	resources := []string{"../crd"}
	for _, stage := range stages {
		if stage.Name == install.Kinds {
			continue // they lie beside, as controller-gen writes them
		}
		text, err := YAML(stage.Objects)
		if err != nil {
			return err
		}
		files["base/"+stage.Name+".yaml"] = append([]byte(Header), text...)
		resources = append(resources, stage.Name+".yaml")
	}
	files["base/kustomization.yaml"] = kustomization(resources)
	kinds, err := config.CRDFiles()
	if err != nil {
		return err
	}
	// The same label as on everything else: the files are as controller-gen writes them.
	files["crd/kustomization.yaml"] = append(kustomization(kinds), fmt.Sprintf("labels:\n- pairs:\n    %s: %s\n", install.PartOfLabel, install.PartOf)...)
	return nil
}

func kustomization(resources []string) []byte {
	var b strings.Builder
	b.WriteString(Header + "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n")
	for _, r := range slices.Clone(resources) {
		b.WriteString("- " + r + "\n")
	}
	return []byte(b.String())
}
