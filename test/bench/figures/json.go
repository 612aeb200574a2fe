package figures

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// Object is what [Sheet.Write] writes: every figure as a number under its own key, and
// beside them objects that say more about the same keys. run is about the whole.
func (s *Sheet) Object(targets []Target, run any) map[string]any {
	object := map[string]any{}
	methods, units, samples, verdicts := map[string]string{}, map[string]string{}, map[string]int{}, map[string]Verdict{}
	for _, f := range s.All() {
		object[f.Key] = f.Value
		methods[f.Key], units[f.Key] = f.Method, f.Unit
		if f.N > 0 {
			samples[f.Key] = f.N
		}
		if v, ok := judge(f, targets); ok {
			verdicts[f.Key] = v
		}
	}
	object["methods"], object["units"], object["samples"], object["targets"], object["run"] = methods, units, samples, verdicts, run
	return object
}

// Write replaces the file as a whole, and makes its folder if need be.
func (s *Sheet) Write(file string, targets []Target, run any) error {
	text, err := json.MarshalIndent(s.Object(targets, run), "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
