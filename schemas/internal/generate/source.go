package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// source is what the Go files say beyond what reflection shows.
type source struct {
	comments map[string]string   // of a type, "CallConnected", or a field, "Call.CorrelationID"
	values   map[string][]string // the constants of a type of strings, in their order
	headers  []header
}

// header is a header of a message.
type header struct{ name, comment string }

func readSource(directory string) (*source, error) {
	names, err := filepath.Glob(filepath.Join(directory, "*.go"))
	if err != nil {
		return nil, err
	}
	s := &source{comments: make(map[string]string), values: make(map[string][]string)}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, declaration := range file.Decls {
			if d, ok := declaration.(*ast.GenDecl); ok {
				s.add(d)
			}
		}
	}
	return s, nil
}

func (s *source) add(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s.comments[spec.Name.Name] = text(d.Doc)
			if structure, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range structure.Fields.List {
					for _, name := range f.Names {
						s.comments[spec.Name.Name+"."+name.Name] = text(f.Doc)
					}
				}
			}
		case *ast.ValueSpec:
			s.addConstant(spec)
		}
	}
}

// addConstant keeps a constant that is a known value of a type, or the name of
// a header.
func (s *source) addConstant(spec *ast.ValueSpec) {
	if len(spec.Values) != 1 {
		return
	}
	literal, ok := spec.Values[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		panic(err) // the parser has read it as a string
	}
	if of, ok := spec.Type.(*ast.Ident); ok {
		s.values[of.Name] = append(s.values[of.Name], value)
	} else if name := spec.Names[0].Name; strings.HasPrefix(name, "Header") {
		comment := strings.TrimSpace(text(spec.Doc) + " " + text(spec.Comment))
		s.headers = append(s.headers, header{value, strings.TrimPrefix(comment, name+" ")})
	}
}

// link matches a name that godoc would link.
var link = regexp.MustCompile(`\*?\[(\w+)\]`)

// text returns a comment on one line.
func text(comment *ast.CommentGroup) string {
	return strings.Join(strings.Fields(link.ReplaceAllString(comment.Text(), "$1")), " ")
}

// comment returns the comment of a type or a field, which must have one.
func (s *source) comment(name string) (string, error) {
	if s.comments[name] == "" {
		return "", fmt.Errorf("%s has no comment, which would be its description", name)
	}
	return s.comments[name], nil
}
