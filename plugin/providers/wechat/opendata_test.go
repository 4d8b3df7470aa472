// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minigate/minigate/module/provider"
)

// The platform's own example, found in its documentation and in every SDK.
const (
	officialAppID = "wx4f4bc4dec97d474b"
	officialKey   = "tiihtNczf5v6AKRyjwEUhQ=="
	officialIV    = "r7BXXKkLb8qrSNn05n0qiA=="
	officialData  = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew=="
	officialUser  = "oGZUI0egBJY1zhBYw2KhdUfwVJJE"
	officialPlain = `{"openId":"oGZUI0egBJY1zhBYw2KhdUfwVJJE","nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/aSKcBBPpibyKNicHNTMM0qJVh8Kjgiak2AHWr8MHM4WgMEm7GFhsf8OYrySdbvAMvTsw3mo8ibKicsnfN5pRjl1p8HQ/0","unionId":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA","watermark":{"timestamp":1477314187,"appid":"wx4f4bc4dec97d474b"}}`
)

var (
	officialTime   = time.Unix(1477314187, 0)
	officialHolder = provider.Holder{OpenID: officialUser, SessionKey: officialKey}
)

func TestDecryptOfficialVector(t *testing.T) {
	plain, err := decrypt(officialAppID, officialHolder, officialData, officialIV, officialTime)
	if err != nil || string(plain) != officialPlain {
		t.Errorf("%v\n%s", err, plain)
	}
	plain, err = decrypt(officialAppID, officialHolder, strings.ReplaceAll(officialData, "+", " "), officialIV, officialTime)
	if err != nil || string(plain) != officialPlain {
		t.Errorf("with + turned into a space: %v\n%s", err, plain)
	}
}

// encrypt is the platform's side, for what it never makes.
func encrypt(t testing.TB, plain string, pad []byte) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(officialKey)
	if err != nil {
		t.Fatal(err)
	}
	iv, err := base64.StdEncoding.DecodeString(officialIV)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append([]byte(plain), pad...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	return base64.StdEncoding.EncodeToString(text)
}

// seal encrypts with the right padding.
func seal(t testing.TB, plain string) string {
	t.Helper()
	return encrypt(t, plain, padding(plain))
}

// padding is the right padding of plain.
func padding(plain string) []byte {
	n := aes.BlockSize - len(plain)%aes.BlockSize
	return []byte(strings.Repeat(string(rune(n)), n))
}

// marked is an object with these members before a watermark.
func marked(members, appID string, at int64) string {
	return fmt.Sprintf(`{%s"watermark":{"appid":%q,"timestamp":%d}}`, members, appID, at)
}

// mark is an object with these members and the right watermark.
func mark(members string) string { return marked(members, officialAppID, officialTime.Unix()) }

// A wrong key, a changed byte, the data of another program, user or of yesterday:
// lenient decrypters take some of these for text (WxJava#359, easywechat#1312),
// and one panics on a text of 15 bytes (silenceper/wechat). There is one error for
// all, so that nobody decrypts with us as an oracle.
func TestDecryptRefuses(t *testing.T) {
	now := officialTime.Unix()
	good := mark(`"a":1,`)
	wrongPad := padding(good)
	wrongPad[0]++
	flipped := []byte(officialData)
	flipped[200] ^= 1
	for name, test := range map[string]struct{ key, data, iv string }{
		// decrypts to garbage whose last byte is 40, which a lenient one cuts off
		"known negative": {
			"7MG7jbTToVVRWRXVA885rg==",
			"BY6VOgcWbwGcyrunK0ECWI8rnDsT69DucZ+M78tc1aL9aM/3bEAHFYd4fu7kRjWhD4YfjObw44T9vUqKyHIjbKs6hvtEasZZEIW35x4a91xVgN48ZqZ7MTQqUlP13kDUlkuwYh+/8g8yceu4kNbjowYrhihx+SV7CfjKCveJ7TSepr5Z7aLv1o+rfeelfOwn++WN/YoQsuZ6S3L4fWlWe5DAAUnFUI6cJvxxCohVzbrVXhyH2AqQdSjH2WnMYFeaGFIbcoxMznlk7oEwFn+hBj63dyT/swdYQfEdzuyCBmKXy8d6l1RKVX6Y65coTD8kIlbr+FKsqYrXVUIUBSwehqYuOdhYWZ9Bntl5DWU1oqzAPCnMn2cAIoQpQPKP7IGSxMOvCNAMhVXbE7BvnWuVuGF+AM5tXAa9IVUhcMImGwLQqm4iV5uBd+5OcFObh3A4VJk9iBCBWSkBHa/rV9CVoY0bFv2F9/2Hv82++Ybl274=",
			"TarMFjnzHVxy8pdS93wQbw==",
		},
		"another key":         {"tiihtNczf5v6AKRyjwEUhA==", officialData, officialIV},
		"short key":           {"tiihtNczf5v6AKRyjwEU", officialData, officialIV},
		"no key":              {"", officialData, officialIV},
		"short iv":            {officialKey, officialData, base64.StdEncoding.EncodeToString(make([]byte, 15))},
		"long iv":             {officialKey, officialData, base64.StdEncoding.EncodeToString(make([]byte, 17))},
		"another iv":          {officialKey, officialData, base64.StdEncoding.EncodeToString(make([]byte, 16))},
		"no iv":               {officialKey, officialData, ""},
		"no data":             {officialKey, "", officialIV},
		"15 bytes":            {officialKey, base64.StdEncoding.EncodeToString(make([]byte, 15)), officialIV},
		"17 bytes":            {officialKey, base64.StdEncoding.EncodeToString(make([]byte, 17)), officialIV},
		"above 64 KiB":        {officialKey, seal(t, mark(`"a":"`+strings.Repeat("x", largestData)+`",`)), officialIV},
		"10 MB":               {officialKey, base64.StdEncoding.EncodeToString(make([]byte, 10<<20)), officialIV},
		"no base64":           {officialKey, "{" + officialData[1:], officialIV},
		"base64 on lines":     {officialKey, officialData[:76] + "\r\n" + officialData[76:], officialIV},
		"base64 of a URL":     {officialKey, strings.NewReplacer("+", "-", "/", "_").Replace(officialData), officialIV},
		"base64 with 1 left":  {officialKey, officialData, strings.Replace(officialIV, "A==", "B==", 1)},
		"cut":                 {officialKey, officialData[:len(officialData)-4], officialIV},
		"a block missing":     {officialKey, seal(t, good)[:64], officialIV},
		"a flipped bit":       {officialKey, string(flipped), officialIV},
		"another program":     {officialKey, seal(t, marked("", "wx0000000000000000", now)), officialIV},
		"a day old":           {officialKey, seal(t, marked("", officialAppID, now-86400)), officialIV},
		"from the future":     {officialKey, seal(t, marked("", officialAppID, now+86400)), officialIV},
		"of no time":          {officialKey, seal(t, `{"watermark":{"appid":"`+officialAppID+`"}}`), officialIV},
		"of a time too large": {officialKey, seal(t, `{"watermark":{"appid":"`+officialAppID+`","timestamp":1e30}}`), officialIV},
		"no watermark":        {officialKey, seal(t, `{"a":1}`), officialIV},
		"watermark of text":   {officialKey, seal(t, `{"watermark":"`+officialAppID+`"}`), officialIV},
		"watermark in case":   {officialKey, seal(t, strings.Replace(good, "watermark", "Watermark", 1)), officialIV},
		"two watermarks":      {officialKey, seal(t, mark(`"watermark":{},`)), officialIV},
		"two app ids":         {officialKey, seal(t, strings.Replace(good, `"appid"`, `"appid":"wx0","appid"`, 1)), officialIV},
		"another user":        {officialKey, seal(t, mark(`"openId":"oGZUI0egBJY1zhBYw2KhdUfwVJJF",`)), officialIV},
		"nobody":              {officialKey, seal(t, mark(`"openId":"",`)), officialIV},
		"user is a number":    {officialKey, seal(t, mark(`"openId":7,`)), officialIV},
		"a user twice":        {officialKey, seal(t, mark(`"openId":"`+officialUser+`","openId":"x",`)), officialIV},
		"a name twice":        {officialKey, seal(t, mark(`"a":1,"\u0061":2,`)), officialIV},
		"watermark in a list": {officialKey, seal(t, `{"watermark":[`+good+`]}`), officialIV},
		"deep":                {officialKey, seal(t, mark(`"a":`+strings.Repeat("[", 32)+strings.Repeat("]", 32)+`,`)), officialIV},
		"trailing object":     {officialKey, seal(t, good+"{}"), officialIV},
		"trailing text":       {officialKey, seal(t, good+"x"), officialIV},
		"trailing space":      {officialKey, seal(t, good+" "), officialIV},
		"leading space":       {officialKey, seal(t, " "+good), officialIV},
		"byte order mark":     {officialKey, seal(t, "\xef\xbb\xbf"+good), officialIV},
		"no unicode":          {officialKey, seal(t, mark("\"a\":\"\xff\",")), officialIV},
		"no object":           {officialKey, seal(t, `[]`), officialIV},
		"no json":             {officialKey, seal(t, "{text"), officialIV},
		"only padding":        {officialKey, seal(t, ""), officialIV},
		"no padding":          {officialKey, encrypt(t, good+strings.Repeat(" ", aes.BlockSize-len(good)%aes.BlockSize), nil), officialIV},
		"padding unequal":     {officialKey, encrypt(t, good, wrongPad), officialIV},
		"padding of zero":     {officialKey, encrypt(t, good+strings.Repeat(" ", aes.BlockSize-1-len(good)%aes.BlockSize), []byte{0}), officialIV},
		"padding too large":   {officialKey, encrypt(t, good, []byte(strings.Repeat("\x20", 32-len(good)%aes.BlockSize))), officialIV},
	} {
		t.Run(name, func(t *testing.T) {
			holder := provider.Holder{OpenID: officialUser, SessionKey: test.key}
			plain, err := decrypt(officialAppID, holder, test.data, test.iv, officialTime)
			if !errors.Is(err, provider.ErrData) || err.Error() != provider.ErrData.Error() || plain != nil {
				t.Errorf("%q, %v", plain, err)
			}
		})
	}
	if _, err := decrypt("wx0000000000000000", officialHolder, officialData, officialIV, officialTime); !errors.Is(err, provider.ErrData) {
		t.Errorf("the official one in another program: %v", err)
	}
}

// What is right passes, up to the limits.
func TestDecryptAccepts(t *testing.T) {
	now := officialTime.Unix()
	for name, plain := range map[string]string{
		"least":              mark(""),
		"own openid":         mark(`"openId":"` + officialUser + `",`),
		"no openid":          mark(`"openId":null,`),
		"nested":             mark(`"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `,`),
		"steps":              mark(`"stepInfoList":[{"timestamp":1445866601,"step":100}],`),
		"a group":            mark(`"openGId":"tGxxx",`),
		"a phone number":     mark(`"phoneNumber":"13580006666","purePhoneNumber":"13580006666","countryCode":"86",`),
		"a foreign number":   mark(`"phoneNumber":"85251234567","purePhoneNumber":"51234567","countryCode":852,`),
		"a person":           mark(`"nickName":"Band","gender":1,`),
		"as old as can be":   marked("", officialAppID, now-600),
		"as young as can be": marked("", officialAppID, now+300),
		"64 KiB":             mark(`"a":"` + strings.Repeat("x", largestData-len(mark(`"a":"",`))-1) + `",`),
	} {
		got, err := decrypt(officialAppID, officialHolder, seal(t, plain), officialIV, officialTime)
		if err != nil || string(got) != plain {
			t.Errorf("%s: %.100q, %v", name, got, err)
		}
	}
}

// Every length of padding is removed, and a wrong byte anywhere in it refused:
// the answer to Vaudenay's attack begins with looking at all of them.
func TestUnpad(t *testing.T) {
	for n := 1; n <= aes.BlockSize; n++ {
		text := append(bytes.Repeat([]byte("x"), 2*aes.BlockSize-n), bytes.Repeat([]byte{byte(n)}, n)...)
		if plain, ok := unpad(text); !ok || len(plain) != 2*aes.BlockSize-n {
			t.Errorf("%d: %q %v", n, plain, ok)
		}
		for i := range n - 1 {
			wrong := bytes.Clone(text)
			wrong[len(text)-n+i]++
			if plain, ok := unpad(wrong); ok || len(plain) != len(wrong) {
				t.Errorf("%d, wrong at %d: %q %v", n, i, plain, ok)
			}
		}
	}
	for _, n := range []byte{0, 17, 32, 40, 255} {
		text := bytes.Repeat([]byte{n}, 3*aes.BlockSize)
		if plain, ok := unpad(text); ok || len(plain) != len(text) {
			t.Errorf("%d: %q %v", n, plain, ok)
		}
	}
}

// What is read in the place of a text that is not fit is as large, and read to
// its end: a client that counts time must not learn that the padding was wrong.
func TestStandIn(t *testing.T) {
	for size := aes.BlockSize; size <= largestData; size += aes.BlockSize {
		object := standIn(size)
		if off := size - len(object); size >= 160 && (off < -1 || off >= memberSize) {
			t.Fatalf("%d bytes stand for %d", len(object), size)
		}
		if size > 4096 && size < largestData {
			continue
		}
		fields, err := provider.DecodeFields(object)
		if err != nil || !fields.Has("watermark") {
			t.Fatalf("%d: %v", size, err)
		}
	}
}

// Bad padding does the same work as a text that is not JSON, as far as allocations
// tell: reading an object has fifty, and a pool that was emptied meanwhile a few.
func TestFailuresWorkAlike(t *testing.T) {
	count := func(data string) float64 {
		return testing.AllocsPerRun(100, func() {
			if _, err := decrypt(officialAppID, officialHolder, data, officialIV, officialTime); !errors.Is(err, provider.ErrData) {
				t.Error(err)
			}
		})
	}
	cases := failures(t)
	want := count(cases["bad padding"])
	for _, name := range []string{"bad JSON at the end", "bad JSON at the start", "bad padding and JSON"} {
		if got := count(cases[name]); math.Abs(got-want) > 5 {
			t.Errorf("%s: %v allocations, want about %v", name, got, want)
		}
	}
}

// failures are data of 400 bytes as the official, each wrong in one way.
func failures(t testing.TB) map[string]string {
	t.Helper()
	pad := padding(officialPlain)
	pad[0]++
	garbage := "\xff" + officialPlain[1:]
	return map[string]string{
		"bad padding":           encrypt(t, officialPlain, pad),
		"bad padding and JSON":  encrypt(t, garbage, pad),
		"bad JSON at the start": seal(t, garbage),
		"bad JSON at the end":   seal(t, officialPlain[:len(officialPlain)-1]+"x"),
		"bad watermark":         seal(t, strings.Replace(officialPlain, officialAppID, "wx0000000000000000", 1)),
		"bad user":              seal(t, strings.Replace(officialPlain, officialUser, "oGZUI0egBJY1zhBYw2KhdUfwVJJF", 1)),
	}
}

func TestVerifyOfficialVector(t *testing.T) {
	const (
		key       = "HyVFkGl5F5OQWJZZaNzBBg=="
		raw       = `{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}`
		signature = "75e81ceda165f4ffa64f4068af58c64b8f54b88c"
	)
	if err := verify(provider.Holder{SessionKey: key}, raw, signature); err != nil {
		t.Error(err)
	}
	for _, changed := range [][3]string{
		{officialKey, raw, signature},
		{key, raw + " ", signature},
		{key, raw, strings.ToUpper(signature)},
		{key, raw, signature + "\n"},
		{key, raw, ""},
		{key, raw, signature[:39]},
	} {
		if err := verify(provider.Holder{SessionKey: changed[0]}, changed[1], changed[2]); !errors.Is(err, provider.ErrData) {
			t.Errorf("%q: %v", changed, err)
		}
	}
}

// A right signature does not make an object of what is none; and without a
// session key everybody can make one.
func TestVerifyRefuses(t *testing.T) {
	for name, test := range map[string]struct{ key, raw string }{
		"no key":         {"", `{"nickName":"Band"}`},
		"short key":      {"tiihtNczf5v6AKRyjwEU", `{"nickName":"Band"}`},
		"no data":        {officialKey, ""},
		"text":           {officialKey, "Band"},
		"list":           {officialKey, "[]"},
		"two objects":    {officialKey, "{}{}"},
		"a name twice":   {officialKey, `{"nickName":"a","nickName":"b"}`},
		"no unicode":     {officialKey, "{\"a\":\"\xff\"}"},
		"deep":           {officialKey, strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33)},
		"above 64 KiB":   {officialKey, `{"a":"` + strings.Repeat("x", largestData) + `"}`},
		"object in JSON": {officialKey, `"{}"`},
	} {
		sum := sha1.Sum([]byte(test.raw + test.key))
		holder := provider.Holder{OpenID: officialUser, SessionKey: test.key}
		if err := verify(holder, test.raw, hex.EncodeToString(sum[:])); !errors.Is(err, provider.ErrData) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever comes as encrypted data, decrypt neither panics nor returns what
// lacks the watermark.
func FuzzDecrypt(f *testing.F) {
	f.Add(officialData, officialIV)
	f.Add(strings.ReplaceAll(officialData, "+", " "), officialIV)
	f.Add("", "")
	f.Add("AAAA", officialIV)
	f.Fuzz(func(t *testing.T, data, iv string) {
		plain, err := decrypt(officialAppID, officialHolder, data, iv, officialTime)
		if err == nil && (!json.Valid(plain) || !strings.Contains(string(plain), officialAppID)) {
			t.Errorf("%q", plain)
		}
		if err != nil && (!errors.Is(err, provider.ErrData) || plain != nil) {
			t.Errorf("%q %v", plain, err)
		}
	})
}

// Whatever a key opens, decrypt says no more of it than that.
func FuzzDecryptPlain(f *testing.F) {
	f.Add(officialPlain, padding(officialPlain))
	f.Add(mark(`"openId":"x",`), []byte("\x01"))
	f.Fuzz(func(t *testing.T, plain string, pad []byte) {
		if (len(plain)+len(pad))%aes.BlockSize != 0 {
			pad = append(bytes.Clone(pad), padding(plain+string(pad))...)
		}
		got, err := decrypt(officialAppID, officialHolder, encrypt(t, plain, pad), officialIV, officialTime)
		if err == nil && (!strings.HasPrefix(plain+string(pad), string(got)) || !isGenuine(got, officialAppID, officialUser, officialTime)) {
			t.Errorf("%q became %q", plain, got)
		}
	})
}

// The failures should take as long as each other, within the noise of a network
// many times over.
func BenchmarkDecrypt(b *testing.B) {
	run := func(name string, holder provider.Holder, data string, want error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decrypt(officialAppID, holder, data, officialIV, officialTime); !errors.Is(err, want) {
					b.Fatal(err)
				}
			}
		})
	}
	run("good", officialHolder, officialData, nil)
	run("bad key", provider.Holder{OpenID: officialUser, SessionKey: "tiihtNczf5v6AKRyjwEUhA=="}, officialData, provider.ErrData)
	cases := failures(b)
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		run(name, officialHolder, cases[name], provider.ErrData)
	}
}
