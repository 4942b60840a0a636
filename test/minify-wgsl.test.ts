import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { minifyWGSL } from '../scripts/minify-wgsl.js';

describe('the minifier of shaders', () => {
  test('drops comments, spaces and last commas', () => {
    expect(minifyWGSL('/* what */\nconst A = 2u; // why\nconst B = vec2u(\n  A,\n  1u,\n);')).toBe(
      'const a=2u;const b=vec2u(a,1u);',
    );
  });

  test('keeps entry points and override constants, also where something else has their name', () => {
    const text = 'override SIZE: u32 = 1;\n@compute @workgroup_size(64)\nfn sum() {}\nfn other() { let sum = SIZE; }';
    expect(minifyWGSL(text)).toBe('override SIZE:u32=1;@compute@workgroup_size(64)fn sum(){}fn a(){let sum=SIZE;}');
  });

  test('gives members names of their own, and leaves the components of vectors alone', () => {
    const text =
      'struct Params { count: u32, x: f32, }\nfn f(p: Params, x: vec2f) -> f32 { return p.x + x.x * f32(p.count); }';
    expect(minifyWGSL(text)).toBe('struct b{a:u32,x:f32}fn a(a:b,c:vec2f)->f32{return a.x+c.x*f32(a.a);}');
  });

  test('gives no member the name of one that stays', () => {
    expect(minifyWGSL('struct Line { a: f32, b: f32, c: f32 }')).toBe('struct c{a:f32,b:f32,c:f32}');
  });

  test('gives what never meets in a function the same names', () => {
    const text = 'const A = 1; fn f(i: i32) -> i32 { return A + A + i; } fn g(j: i32) -> i32 { return f(j) + j; }';
    expect(minifyWGSL(text)).toBe('const a=1;fn b(b:i32)->i32{return a+a+b;}fn c(a:i32)->i32{return b(a)+a;}');
  });

  test('keeps attributes, built-in values and address spaces', () => {
    const text =
      '@group(0) @binding(0) var<storage, read_write> values: array<vec4<f32>>;\n' +
      '@compute @workgroup_size(8)\nfn run(@builtin(workgroup_id) workgroup_id: vec3u) { values[workgroup_id.x] = vec4f(); }';
    expect(minifyWGSL(text)).toBe(
      '@group(0)@binding(0)var<storage,read_write>a:array<vec4<f32>>;' +
        '@compute@workgroup_size(8)fn run(@builtin(workgroup_id)b:vec3u){a[b.x]=vec4f();}',
    );
  });

  test('does not join what would become another operator', () => {
    expect(minifyWGSL('const a = 1 - -2; const b = a & & a; const c = a < -b;')).toBe(
      'const a=1- -2;const b=a& &a;const c=a< -b;',
    );
  });

  const folder = new URL('../shaders/', import.meta.url);
  test.each(readdirSync(folder))('%s loses its comments and more', (file) => {
    const text = readFileSync(new URL(file, folder), 'utf8');
    const small = minifyWGSL(text);
    expect(small).not.toMatch(/\n|\/\*| {2}/);
    expect(small.length).toBeLessThan(text.length * 0.65);
    expect(small.match(/@compute/g)).toEqual(text.match(/@compute/g));
  });
});
