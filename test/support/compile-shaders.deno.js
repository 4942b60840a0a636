/* Run by Deno: compiles with naga what comes on stdin, and prints what is wrong with each, null for nothing. */

const { modules, pipelines } = JSON.parse(await new Response(Deno.stdin.readable).text());
const adapter = await navigator.gpu.requestAdapter();
if (!adapter) throw new Error('Deno finds no adapter: install a Vulkan driver such as mesa-vulkan-drivers');
const device = await adapter.requestDevice();

/** What a call is reported for, or null. */
async function problem(make) {
  device.pushErrorScope('validation');
  let thrown = null;
  try {
    await make();
  } catch (error) {
    thrown = error.message;
  }
  return (await device.popErrorScope())?.message ?? thrown;
}

const made = {};
const result = { adapter: adapter.info.description, modules: {}, pipelines: [] };
for (const [name, code] of Object.entries(modules)) {
  result.modules[name] = await problem(() => {
    made[name] = device.createShaderModule({ code });
  });
}
for (const { shader, entryPoint, constants } of pipelines) {
  const compute = { module: made[shader], entryPoint, constants };
  result.pipelines.push(await problem(() => device.createComputePipelineAsync({ layout: 'auto', compute })));
}
console.log(JSON.stringify(result));
Deno.exit(0);
