// Renders a Helm chart as Helm does, as far as a chart without others needs it: chart CHART NAME VALUES (JSON, over
// those of values.yaml), or reads a file of documents: chart FILE. Prints them as a JSON list. Debian has no Helm.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(path string, into interface{}) {
	text, err := os.ReadFile(path)
	check(err)
	check(yaml.UnmarshalStrict(text, into))
}

func merge(into, over object) {
	for key, value := range over {
		inner, ok := value.(object)
		if below, both := into[key].(object); ok && both {
			merge(below, inner)
		} else {
			into[key] = value
		}
	}
}

func functions() template.FuncMap {
	f := sprig.TxtFuncMap()
	delete(f, "env")
	delete(f, "expandenv")
	f["toYaml"] = func(v interface{}) (string, error) {
		text, err := yaml.Marshal(v)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	f["required"] = func(why string, v interface{}) (interface{}, error) {
		if v == nil || v == "" {
			return nil, errors.New(why)
		}
		return v, nil
	}
	return f
}

func render(chart, name, values string) string {
	about := struct{ ApiVersion, Name, Description, Type, Version, AppVersion string }{}
	all, over, out := object{}, object{}, bytes.Buffer{}
	read(filepath.Join(chart, "Chart.yaml"), &about)
	read(filepath.Join(chart, "values.yaml"), &all)
	check(json.Unmarshal([]byte(values), &over))
	merge(all, over)
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*.yaml"))
	check(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(err)
		t, err := template.New(filepath.Base(file)).Option("missingkey=error").Funcs(functions()).Parse(string(text))
		check(err)
		check(t.Execute(&out, object{"Values": all, "Chart": about,
			"Release": object{"Name": name, "Namespace": "default", "Service": "Helm"}}))
		out.WriteString("\n---\n")
	}
	return out.String()
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		text = []byte(render(os.Args[1], os.Args[2], os.Args[3]))
	}
	list := []object{}
	for _, document := range regexp.MustCompile(`(?m)^---\s*$`).Split(string(text), -1) {
		one := object{}
		check(yaml.UnmarshalStrict([]byte(document), &one))
		if len(one) > 0 {
			list = append(list, one)
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(list))
}
