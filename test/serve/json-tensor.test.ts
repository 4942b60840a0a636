import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseDocument } from '../../src/serve/json-tensor.js';

const parse = (text: string, most = 1e6): ReturnType<typeof parseDocument> =>
  parseDocument(new TextEncoder().encode(text), most);
const withData = (data: string): string => `{"inputs":[{"name":"input","data":${data},"shape":[1]}],"id":"x"}`;

describe('JSON with numbers in it', () => {
  test('gives the numbers of inputs[…].data, and the rest as JSON.parse does', async () => {
    const text = `\n{ "outputs": [{"data": [1]}], "inputs" : [ {"na\\u006de": "\\"data\\":[", "d\\u0061ta" : [ [1, -2.5] ,[3e2,0]] } ] }`;
    const { value, data } = await parse(text);
    expect(value).toEqual({ outputs: [{ data: [1] }], inputs: [{ name: '"data":[', data: true }] });
    expect([...(data ?? [])]).toEqual([1, -2.5, 300, 0]);
  });

  test.each([['[]'], ['[[],[]]'], ['[ ]']])('reads %s', async (data) => {
    expect((await parse(withData(data))).data).toHaveLength(0);
  });

  test('reads every number as JSON.parse does', async () => {
    const number = fc.oneof(
      fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
      fc.float({ noNaN: true, noDefaultInfinity: true }).map(String),
      fc.integer().map(String),
      fc.tuple(fc.integer(), fc.nat(), fc.integer({ min: -30, max: 30 })).map(([a, b, e]) => `${a}.${b}E${e}`),
      fc.constantFrom('-0', '0.0', '123456789012345', '1234567890123456', '0.000000000000001', '1e-320', '1E+5'),
    );
    const space = fc.constantFrom('', ' ', '\n\t');
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(number, space)), async (items) => {
        const text = `[${items.map(([item, blank]) => blank + item.replace('e+', 'e') + blank).join()}]`;
        const { data } = await parse(withData(text));
        expect(data).toEqual(Float32Array.from(JSON.parse(text)));
      }),
    );
  });

  test.each([
    '[1,]',
    '[,1]',
    '[1 2]',
    '[1,[2],,3]',
    '[01]',
    '[1.]',
    '[.5]',
    '[+1]',
    '[-]',
    '[1e]',
    '[1-2]',
    '[0x10]',
    '[NaN]',
    '[null]',
    '["1"]',
    '[{}]',
    '[1',
    '[[1]',
    `[${'1'.repeat(500)}]`,
    '[[[[[1]]]]]',
  ])('refuses %s by 400', async (data) => {
    await expect(parse(withData(data))).rejects.toMatchObject({ status: 400 });
  });

  test('refuses what is too deep, too long or too much, before it makes anything of it', async () => {
    await expect(parse('['.repeat(20_000))).rejects.toMatchObject({ status: 400 });
    await expect(parse(`{"inputs":[{"name":${'['.repeat(20_000)}`)).rejects.toMatchObject({ status: 400 });
    await expect(parse(`{"id":"${'a'.repeat(70_000)}"}`)).rejects.toMatchObject({ status: 413 });
    await expect(parse(withData('[1,2,3]'), 2)).rejects.toMatchObject({ status: 413 });
    await expect(parse(`{"inputs":[{"data":[1],"data":[2]}]}`)).rejects.toMatchObject({ status: 400 });
    await expect(parse('{"a":"\\')).rejects.toMatchObject({ status: 400 });
    await expect(parse('\u{feff}{"a":')).rejects.toMatchObject({ status: 400 });
  });

  test('lets other work have its turn', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    await parse(withData(`[${'0.25,'.repeat(500_000)}1]`));
    clearInterval(timer);
    expect(turns).toBeGreaterThan(3);
  });
});
