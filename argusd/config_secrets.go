package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// A secret setting NAME is read from the environment, from the file that NAME_FILE names, or from a directory. There it is
// the file NAME in the directory that CREDENTIALS_DIRECTORY names, as with systemd's LoadCredential= and a mounted Secret.
// It stands in one of the three.

// unreadable stands for a secret whose file cannot be used. Nothing more is told of it.
const unreadable = "unreadable"

// maxSecretFile bounds a secret's file in bytes.
const maxSecretFile = 16 << 10

// readSecrets puts the secrets of a struct that stand in files into environ. It returns what is wrong with them, by
// variable, and repeats no content. It adds the NAME_FILE variables to variables.
func readSecrets(config reflect.Type, variables, environ map[string]string) (found []string) {
	for i := range config.NumField() {
		f := config.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		if name == "" {
			if f.Type.Kind() == reflect.Struct {
				found = append(found, readSecrets(f.Type, variables, environ)...)
			}
			continue
		}
		if f.Tag.Get("secret") != "true" {
			continue
		}
		variables[f.Name+"_FILE"] = name + "_FILE"
		var at, from []string // files, and what names each
		if environ[name] != "" {
			from = append(from, name)
		}
		if file := environ[name+"_FILE"]; file != "" {
			at, from = append(at, file), append(from, name+"_FILE")
		}
		if dir := environ["CREDENTIALS_DIRECTORY"]; dir != "" {
			file := filepath.Join(dir, name)
			if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
				at, from = append(at, file), append(from, "the file "+name+" in CREDENTIALS_DIRECTORY")
			}
		}
		switch {
		case len(from) > 1:
			found = append(found, fmt.Sprintf("%s is set twice, by %s: keep one", name, strings.Join(from, " and ")))
		case len(at) == 1:
			text, err := secretFile(at[0])
			if err != nil {
				found = append(found, fmt.Sprintf("%s: the file of %s %v", from[0], name, err))
				text = unreadable
			}
			environ[name] = text
		}
	}
	return found
}

// secretFile reads a secret's file. A line end at its end is no part of the secret.
func secretFile(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", errors.New("is not named by an absolute path")
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", reasonOf(err))
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return "", errors.New("is no regular file")
	case mode.Perm()&0o027 != 0:
		return "", fmt.Errorf("has mode %04o, so others may read or change it: chmod 0400, or 0440 with a group of its own (defaultMode: 0440)", mode.Perm())
	case info.Size() > maxSecretFile:
		return "", fmt.Errorf("has %d bytes; a secret has %d at most", info.Size(), maxSecretFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", reasonOf(err))
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case text == "":
		return "", errors.New("is empty")
	case strings.ContainsAny(text, "\x00\n\r"):
		return "", errors.New("holds more than one line")
	}
	return text, nil
}

// reasonOf is the cause without the path, which may be long and is known.
func reasonOf(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
