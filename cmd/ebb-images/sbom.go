package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// part is something that an image is made of.
type part struct {
	Name, Version string
	License       string // "" where it is not known here
	URL           string // a package URL
	Sum           string // SHA-256, "" for none
}

// partsOfProgram are the program and the Go modules that it says are in it.
func partsOfProgram(path, version, sum string) ([]part, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("what %s is made of: %w", path, err)
	}
	parts := []part{
		{Name: info.Main.Path, Version: version, License: "Apache-2.0", URL: "pkg:golang/" + info.Main.Path + "@" + url.PathEscape(version), Sum: sum},
		{Name: "stdlib", Version: info.GoVersion, License: "BSD-3-Clause", URL: "pkg:golang/stdlib@" + info.GoVersion},
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(parts, part{Name: m.Path, Version: m.Version, URL: "pkg:golang/" + m.Path + "@" + url.PathEscape(m.Version)})
	}
	return parts, nil
}

// The parts of SPDX 2.3 that are in use: https://spdx.github.io/spdx-spec/v2.3/.
type (
	document struct {
		SPDXVersion   string         `json:"spdxVersion"`
		DataLicense   string         `json:"dataLicense"`
		ID            string         `json:"SPDXID"`
		Name          string         `json:"name"`
		Namespace     string         `json:"documentNamespace"`
		Creation      creation       `json:"creationInfo"`
		Packages      []spdxPackage  `json:"packages"`
		Relationships []relationship `json:"relationships"`
	}
	creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID        string     `json:"SPDXID"`
		Name      string     `json:"name"`
		Version   string     `json:"versionInfo"`
		Location  string     `json:"downloadLocation"`
		Analyzed  bool       `json:"filesAnalyzed"`
		Concluded string     `json:"licenseConcluded"`
		Declared  string     `json:"licenseDeclared"`
		Copyright string     `json:"copyrightText"`
		Checksums []checksum `json:"checksums,omitempty"`
		Refs      []external `json:"externalRefs,omitempty"`
		Purpose   string     `json:"primaryPackagePurpose,omitempty"`
	}
	checksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	external struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	relationship struct {
		Element string `json:"spdxElementId"`
		Type    string `json:"relationshipType"`
		Related string `json:"relatedSpdxElement"`
	}
)

const nothingSaid = "NOASSERTION"

var notInIDs = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// spdx lists what an image is made of. The same parts make the same text.
func spdx(o options, called string, platform v1.Platform, parts []part) ([]byte, error) {
	packaged := func(id string, p part) spdxPackage {
		license := p.License
		if license == "" {
			license = nothingSaid
		}
		s := spdxPackage{ID: id, Name: p.Name, Version: p.Version, Location: nothingSaid, Concluded: nothingSaid, Declared: license, Copyright: nothingSaid}
		if p.Sum != "" {
			s.Checksums = []checksum{{"SHA256", p.Sum}}
		}
		if p.URL != "" {
			s.Refs = []external{{"PACKAGE-MANAGER", "purl", p.URL}}
		}
		return s
	}
	const top = "SPDXRef-image"
	whole := packaged(top, part{Name: called, Version: o.version, License: "Apache-2.0"})
	whole.Purpose = "CONTAINER"
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: called + " " + o.version + " " + platform.String(),
		Creation:      creation{o.created.Format("2006-01-02T15:04:05Z"), []string{"Tool: ebb-images"}},
		Packages:      []spdxPackage{whole},
		Relationships: []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", top}},
	}
	for i, p := range parts {
		id := fmt.Sprintf("SPDXRef-%d-%s", i, notInIDs.ReplaceAllString(p.Name, "-"))
		d.Packages = append(d.Packages, packaged(id, p))
		d.Relationships = append(d.Relationships, relationship{top, "CONTAINS", id})
	}
	text, err := json.Marshal(d.Packages)
	if err != nil {
		return nil, err
	}
	d.Namespace = fmt.Sprintf("https://ebb.dev/spdx/%s/%s", called, hexSum(text))
	return json.MarshalIndent(d, "", " ")
}
