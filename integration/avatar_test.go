// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// picture is a picture in which something can be seen.
func picture(width, height int, alpha uint8) image.Image {
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			m.Set(x, y, color.NRGBA{uint8(x), uint8(y), uint8(x * y), alpha})
		}
	}
	return m
}

func pngFile(t *testing.T, width, height int) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := png.Encode(&file, picture(width, height, 128)); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func jpegFile(t *testing.T, width, height int) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := jpeg.Encode(&file, picture(width, height, 255), nil); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// part is one part of a form; a file where it has a file name.
type part struct{ name, file, contentType, data string }

const formBoundary = "----minigate-test-boundary"

// form is a multipart/form-data body.
func form(parts ...part) string {
	var body strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&body, "--%s\r\nContent-Disposition: form-data; name=%q", formBoundary, p.name)
		if p.file != "" {
			fmt.Fprintf(&body, "; filename=%q\r\nContent-Type: %s", p.file, p.contentType)
		}
		fmt.Fprintf(&body, "\r\n\r\n%s\r\n", p.data)
	}
	return body.String() + "--" + formBoundary + "--\r\n"
}

// upload sends a form with pictures as wx.uploadFile does.
func (g *gateway) upload(token, body string) answer {
	g.t.Helper()
	return g.large("/miniprogram/profile/avatar", "multipart/form-data; boundary="+formBoundary, body, token)
}

// uploaded makes a picture that of the user and returns its path.
func (g *gateway) uploaded(token string, file []byte) (path string) {
	g.t.Helper()
	address := g.upload(token, form(part{"file", "tmp_a.jpg", "image/jpeg", string(file)})).profile(g.t).Stated["avatar_url"]
	path, ok := strings.CutPrefix(address, "http://"+g.address)
	if !ok || !strings.HasPrefix(path, "/miniprogram/avatar/") {
		g.t.Fatalf("the address of the picture is %q", address)
	}
	return path
}

// A picture from chooseAvatar: what is served is a picture in the size of one,
// without credentials, harmless in a browser, and nothing of what else was in the
// file.
func TestAvatar(t *testing.T) {
	g := start(t, setup{directive: "header X-Picture {http.auth.user.avatar_url}"})
	token := g.login(programA, "alice")
	script := "<script>alert(document.domain)</script>"
	for name, test := range map[string]struct {
		file          string
		contentType   string
		width, height int
	}{
		"JPEG":           {string(jpegFile(t, 40, 30)), "image/jpeg", 40, 30},
		"PNG":            {string(pngFile(t, 40, 30)), "image/png", 40, 30},
		"large JPEG":     {string(jpegFile(t, 1200, 600)), "image/jpeg", 512, 256},
		"JPEG and page":  {string(jpegFile(t, 40, 30)) + script, "image/jpeg", 40, 30},
		"PNG and page":   {string(pngFile(t, 40, 30)) + script, "image/png", 40, 30},
		"PNG with text":  {withChunk(pngFile(t, 40, 30), "tEXt", "Comment\x00"+script), "image/png", 40, 30},
		"JPEG with text": {strings.Replace(string(jpegFile(t, 40, 30)), "\xff\xd8", "\xff\xd8\xff\xfe\x00\x29"+script, 1), "image/jpeg", 40, 30},
	} {
		t.Run(name, func(t *testing.T) {
			a := g.upload(token, form(part{name: "user", data: "7"}, part{"file", "../../x.gif", "image/gif", test.file}))
			address := a.profile(t).Stated["avatar_url"]
			path := strings.TrimPrefix(address, "http://"+g.address)
			if strings.Contains(address, "x.gif") {
				t.Errorf("the client chose the name: %s", address)
			}
			if got := identities(g.get("/", bearer(token)).body, "X-Picture"); strings.Join(got, "") != address {
				t.Errorf("upstream is told of %q, not of %s", got, address)
			}
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				served := g.do(method, path, "")
				for header, want := range map[string]string{
					"Content-Type": test.contentType, "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox",
					"Etag": "", "Set-Cookie": "", "Location": "",
				} {
					if got := served.header.Get(header); got != want {
						t.Errorf("%s: %s is %q, want %q", method, header, got, want)
					}
				}
				if served.status != http.StatusOK || !strings.Contains(served.header.Get("Cache-Control"), "max-age=") {
					t.Errorf("%s: %d %v", method, served.status, served.header)
				}
			}
			served := g.get(path)
			config, kind, err := image.DecodeConfig(strings.NewReader(served.body))
			if err != nil || "image/"+kind != test.contentType || config.Width != test.width || config.Height != test.height {
				t.Errorf("served is %s, %d by %d, %v", kind, config.Width, config.Height, err)
			}
			if strings.Contains(served.body, "script") {
				t.Error("the page in it is served, too")
			}
			// His own picture may come back among the other fields.
			if p := g.put(object("avatar_url", address, "city", "x"), token).profile(t); p.Stated["avatar_url"] != address || g.get(path).status != http.StatusOK {
				t.Errorf("after it came back: %+v", p)
			}
		})
	}
}

// withChunk puts a chunk into a PNG file after the first one.
func withChunk(file []byte, kind, data string) string {
	const header = 8 + 12 + 13
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	chunk = append(chunk, kind+data...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE([]byte(kind+data)))
	return string(file[:header]) + string(chunk) + string(file[header:])
}

// bomb is a PNG file of a hundred bytes that says it has this many pixels.
func bomb(t *testing.T, width, height uint32) string {
	t.Helper()
	file := pngFile(t, 1, 1)
	binary.BigEndian.PutUint32(file[16:], width)
	binary.BigEndian.PutUint32(file[20:], height)
	binary.BigEndian.PutUint32(file[29:], crc32.ChecksumIEEE(file[12:29]))
	return string(file)
}

// What can be uploaded instead of a picture: pages that run, bombs, halves. Each
// has its word, and the picture that was there stays.
func TestAvatarRefuses(t *testing.T) {
	g := start(t, setup{})
	token := g.login(programA, "alice")
	path := g.uploaded(token, jpegFile(t, 8, 8))
	good, small := string(pngFile(t, 8, 8)), string(jpegFile(t, 64, 64))
	var animated bytes.Buffer
	if err := gif.Encode(&animated, picture(8, 8, 255), nil); err != nil {
		t.Fatal(err)
	}
	file := func(data string) string { return form(part{"file", "a.png", "image/png", data}) }
	const svg = `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`
	for name, test := range map[string]struct {
		body   string
		status int
		word   string
	}{
		"SVG":            {file(svg), 415, "unsupported_media_type"},
		"HTML":           {file("<!doctype html><script>alert(1)</script>"), 415, "unsupported_media_type"},
		"GIF":            {file(animated.String()), 415, "unsupported_media_type"},
		"page before":    {file(svg + good), 415, "unsupported_media_type"},
		"empty":          {file(""), 415, "unsupported_media_type"},
		"no file":        {form(part{name: "file", data: good}), 415, "unsupported_media_type"},
		"no part":        {form(), 415, "unsupported_media_type"},
		"PNG bomb":       {file(bomb(t, 50_000, 50_000)), 413, "request_too_large"},
		"wide PNG":       {file(bomb(t, 1<<31-1, 1)), 413, "request_too_large"},
		"17 megapixels":  {file(bomb(t, 8192, 2100)), 413, "request_too_large"},
		"3 MiB":          {file(small + strings.Repeat("x", 3<<20)), 413, "request_too_large"},
		"2 MiB and 1":    {file(small + strings.Repeat("x", 2<<20+1-len(small))), 413, "request_too_large"},
		"3 MiB of field": {form(part{name: "user", data: strings.Repeat("x", 3<<20)}, part{"file", "a.png", "image/png", good}), 413, "request_too_large"},
		"truncated":      {file(small[:len(small)/2]), 400, "invalid_request"},
		"PNG truncated":  {file(good[:len(good)-20]), 400, "invalid_request"},
		"PNG changed":    {file(good[:len(good)-20] + strings.Repeat("x", 20)), 400, "invalid_request"},
		"only magic":     {file(good[:8]), 400, "invalid_request"},
		"two files":      {form(part{"a", "a.png", "image/png", good}, part{"b", "b.png", "image/png", good}), 400, "invalid_request"},
		"form cut":       {strings.TrimSuffix(file(good), "--\r\n"), 400, "invalid_request"},
		"not a form":     {"hello", 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			a := g.upload(token, test.body)
			a.expect(t, test.status, test.word)
			checkErrorForm(t, a)
			if got := g.profile(token).Stated["avatar_url"]; got != "http://"+g.address+path {
				t.Errorf("the picture is now %s", got)
			}
		})
	}
	send := func(contentType, body string) answer {
		return g.large("/miniprogram/profile/avatar", contentType, body, token)
	}
	send("image/png", good).expect(t, 415, "unsupported_media_type")
	send("application/json", "{}").expect(t, 415, "unsupported_media_type")
	send("multipart/form-data", file(good)).expect(t, 415, "unsupported_media_type")
	send("multipart/form-data; boundary=other", file(good)).expect(t, 400, "invalid_request")
	g.upload("", file(good)).expect(t, 401, "session_missing")
	g.upload(token+"x", file(good)).expect(t, 401, "session_invalid")
	g.get("/miniprogram/profile/avatar", bearer(token)).expect(t, 405, "method_not_allowed")
	if a := send("multipart/form-data; boundary="+formBoundary, file(small+strings.Repeat("x", 2<<20-len(small)))); a.status != http.StatusOK {
		t.Errorf("2 MiB: %d %s", a.status, a.body)
	}
}

// A picture is gone when another takes its place, when the user states another
// address or none, and when he is; who does not know its name does not find it,
// nor anything else under a name that leads elsewhere.
func TestAvatarIsGone(t *testing.T) {
	avatars := "profile {\navatars DIR/avatars\n}"
	for name, options := range map[string]string{"store": "", "directory": avatars} {
		t.Run(name, func(t *testing.T) {
			g := start(t, setup{options: options})
			token := g.login(programA, "alice")
			first := g.uploaded(token, jpegFile(t, 8, 8))
			second := g.uploaded(token, pngFile(t, 8, 8))
			g.get(first).expect(t, 404, "not_found")
			if a := g.get(second); a.status != http.StatusOK {
				t.Errorf("%d %s", a.status, a.body)
			}
			if files := g.avatarFiles(); options != "" && (len(files) != 1 || !strings.HasSuffix(second, "/"+files[0])) {
				t.Errorf("the directory has %q", files)
			}
			g.stop()
			g.run()
			if a := g.get(second); a.status != http.StatusOK {
				t.Errorf("after a restart: %d %s", a.status, a.body)
			}
			g.put(`{"avatar_url":"https://cdn.example.com/a.png"}`, token).profile(t)
			g.get(second).expect(t, 404, "not_found")
			third := g.uploaded(token, pngFile(t, 8, 8))
			g.put(`{"avatar_url":null}`, token).profile(t)
			g.get(third).expect(t, 404, "not_found")

			last := g.uploaded(token, pngFile(t, 8, 8))
			for _, path := range []string{
				"/miniprogram/avatar/", "/miniprogram/avatar", last + "/", last + ".png", strings.TrimSuffix(last, ".png") + ".jpg",
				strings.TrimSuffix(last, ".png"), "/miniprogram/avatar/AAAAAAAAAAAAAAAAAAAAAA.png", "/miniprogram/avatar/../profile",
				"/miniprogram/avatar/..%2f..%2fsessions.db", "/miniprogram/avatar/../../sessions.db", "/miniprogram/avatar/%00.png",
				"/miniprogram/avatar/..%5c..%5csessions.db", "/miniprogram/avatar/" + strings.Repeat("A", 10<<10) + ".png", "/miniprogram/avatar//etc/passwd",
				strings.Replace(last, "/avatar/", "/avatar/./", 1),
			} {
				g.get(path).expect(t, 404, "not_found")
			}
			g.do(http.MethodDelete, last, "").expect(t, 405, "method_not_allowed")
			g.do(http.MethodPut, last, "x", bearer(token)).expect(t, 405, "method_not_allowed")
			if a := g.get(last, bearer(token)); a.status != http.StatusOK {
				t.Errorf("%d %s", a.status, a.body)
			}
			g.post("/miniprogram/profile/delete", "", bearer(token))
			g.get(last).expect(t, 404, "not_found")
			if files := g.avatarFiles(); len(files) != 0 {
				t.Errorf("the directory has %q", files)
			}
		})
	}
}

// avatarFiles returns what is in the directory of pictures, of which nobody else
// may read anything.
func (g *gateway) avatarFiles() (names []string) {
	g.t.Helper()
	err := filepath.WalkDir(g.dir+"/avatars", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			g.t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		if !entry.IsDir() {
			if names = append(names, entry.Name()); info.Mode().Perm() != 0o600 {
				g.t.Errorf("%s has mode %o", path, info.Mode().Perm())
			}
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		g.t.Fatal(err)
	}
	return names
}

// Uploads at once: one of the pictures stays, the others are gone.
func TestAvatarsAtOnce(t *testing.T) {
	g := start(t, setup{options: "profile {\navatars DIR/avatars\n}"})
	token := g.login(programA, "alice")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			a := g.upload(token, form(part{"file", "a.png", "image/png", string(pngFile(t, 64, 64))}))
			if a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "" {
				return // one at a time
			}
			if a.status != http.StatusOK {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	all.Wait()
	files := g.avatarFiles()
	if address := g.profile(token).Stated["avatar_url"]; len(files) != 1 || !strings.HasSuffix(address, "/"+files[0]) {
		t.Errorf("the picture is %s, the directory has %q", address, files)
	}
}
